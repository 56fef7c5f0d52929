// Command fail-file is the state FailFile: it writes down why a file failed.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/step"
)

func main() {
	s := cloud.Open(context.Background())
	s.Start(lambdaedge.Function(step.FailFile{Files: s.Store(), Now: s.Now}.Handle))
}
