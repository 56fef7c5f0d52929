// Package api is the HTTP API: routes, validation, problem documents and OpenAPI 3.1. The same http.Handler serves
// behind API Gateway and on one machine.
package api
