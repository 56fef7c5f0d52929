// Command sitevault backs up websites: `sitevault serve` runs the whole service on one machine, `sitevault agent` exports
// a site, and the other commands talk to a service.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(newProgram().run(ctx, os.Args[1:]))
}
