package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
	"github.com/sitevault/sitevault/internal/demo"
)

// Exit codes, as the help of the program lists them.
const (
	exitOK           = 0
	exitFailure      = 1
	exitUsage        = 2
	exitBackupFailed = 3
	exitNotFound     = 4
	exitConflict     = 5
	exitUnreachable  = 6
	exitInterrupted  = 130
)

// usageError is a command line that cannot be obeyed.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// notFoundError is something absent that this program itself looked for.
type notFoundError struct{ text string }

func (e *notFoundError) Error() string { return e.text }

// backupFailed ends a command whose backup failed; the failure has been told already.
type backupFailed struct{ jobID string }

func (e *backupFailed) Error() string { return "backup " + e.jobID + " failed" }

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if refused, ok := errors.AsType[*client.Error](err); ok {
		return refusalCode(refused)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case is[*usageError](err):
		return exitUsage
	case is[*backupFailed](err), is[*demo.FailedError](err):
		return exitBackupFailed
	case is[*notFoundError](err):
		return exitNotFound
	case is[*client.ExistsError](err):
		return exitConflict
	case is[*client.UnreachableError](err), is[*storageSilent](err):
		return exitUnreachable
	}
	return exitFailure
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func refusalCode(e *client.Error) int {
	switch e.Problem.Status {
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusTooManyRequests:
		return exitConflict
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		return exitUsage
	}
	return exitFailure
}

// explain says what went wrong and what to do about it.
func (p *program) explain(err error) {
	switch {
	case is[*backupFailed](err):
		return
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(p.err, "Interrupted.")
		return
	}
	fmt.Fprintf(p.err, "Error: %v\n", err)
	if hint := p.hint(err); hint != "" {
		fmt.Fprintf(p.err, "%s\n", hint)
	}
}

func (p *program) hint(err error) string {
	if refused, ok := errors.AsType[*client.Error](err); ok {
		return refusalHint(refused)
	}
	switch {
	case is[*usageError](err):
		return "Add --help to the command to see how it is used."
	case is[*client.ExistsError](err):
		return "Move it away, or download into another folder with --dir."
	case is[*client.MismatchError](err):
		return "Nothing of the download was kept. Try again; if that does not help, the stored archive may be damaged."
	case is[*client.UnreachableError](err):
		return p.unreachableHint()
	}
	return ""
}

func (p *program) unreachableHint() string {
	if p.serverURL() == defaultServer {
		return "Is the service running on this machine? Start it with: sitevault serve\nIf it runs elsewhere, name it with --server or $SITEVAULT_SERVER."
	}
	return "Check the address in --server or $SITEVAULT_SERVER, and that the service is running."
}

var refusalHints = map[backup.Kind]string{
	backup.Unauthenticated: "Put the service's token into $SITEVAULT_TOKEN or name a file that holds it with --token-file.",
	backup.NotFound:        "List what there is with: sitevault site list, sitevault backup list",
	backup.SiteBusy:        "Watch it with: sitevault backup watch SITE@latest, or cancel it with: sitevault backup cancel SITE@latest",
	backup.NotRetryable:    "Create a new backup with: sitevault backup create SITE --wait",
	backup.Conflict:        "Try again in a moment.",
	backup.QuotaExceeded:   "Delete what is no longer needed (sitevault site delete, sitevault backup delete), or have the quota raised.",
	backup.TooManyRequests: "Try again in a moment.",
}

func refusalHint(e *client.Error) string {
	if e.Problem.Status >= http.StatusInternalServerError && e.Problem.Kind != "" {
		return "The service's log says more. Try again in a moment."
	}
	return strings.TrimSpace(refusalHints[e.Problem.Kind])
}
