// Package provider is the client of the export API: it pins one version of an export and reads byte ranges of exactly
// that version.
//
// What the other side sends is judged before a byte of it is handed on: status, ETag, Content-Range, encoding and
// length. Every answer that the contract does not allow has its own kind, so that the flow knows whether trying again
// can help. The client never sleeps and leaves trying again to the step, which it tells the provider's Retry-After;
// only a request that met a kept connection already closed goes out once more, over a new one.
//
// Every connection is dialed through a Guard, which judges the address that is really dialed. The export's secret
// enters one header and nothing else; error texts name the export as backup.PublicURL does, and of what the other side
// sent they quote numbers and the host of a redirect only, since an answer may echo the request. The address that a host
// leads to stands in the operator's log and in no error: errors are read by tenants.
package provider
