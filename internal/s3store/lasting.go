package s3store

import (
	"context"
	"time"
)

// settleTime bounds how long a call that was sent is waited for after its caller has given up.
const settleTime = 30 * time.Second

// lasting is the context for a call that changes the storage. A request that is on its way takes effect whether or not
// its sender still listens; if the sender left at once, a sweep could come before the effect and miss it. So when ctx
// ends the call goes on for settleTime, unless abandon makes sure that the request cannot take effect any more.
func lasting(ctx context.Context, abandon func(cause error) bool) (context.Context, context.CancelFunc) {
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if abandon(context.Cause(ctx)) {
			cancel()
			return
		}
		late := time.AfterFunc(settleTime, cancel)
		context.AfterFunc(call, func() { late.Stop() })
	})
	return call, func() {
		stop()
		cancel()
	}
}

// never is for calls whose whole request is sent at once.
func never(error) bool { return false }
