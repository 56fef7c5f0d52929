// Package e2e holds what the tests of the whole service stand on: a real S3 server and an export server with gates
// before them that hold, lose or refuse chosen requests, the service in this process or in one that can be killed, and
// a client that asserts what it is told. Only tests import it.
package e2e
