// Package step holds what Sitevault does: one file per state of the state machine (In, Out, Handle), and the use cases
// of the API, the daily runs and the sweeper. A step gets what it needs through the ports in ports.go, keeps nothing
// between calls, and may run twice at any point: finding its own result in place is success.
package step
