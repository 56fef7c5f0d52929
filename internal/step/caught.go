package step

import (
	"encoding/json"

	"github.com/sitevault/sitevault/internal/backup"
)

// Caught is what a Catch of the state machine hands on: the name of the error and its cause. The cause of a function's
// error is a JSON document with an errorMessage, on AWS and in process alike.
type Caught struct {
	Error string `json:"Error"`
	Cause string `json:"Cause"`
}

// Kind is the kind that the error's name stands for; Internal for the names of the platform, such as States.Timeout.
func (c Caught) Kind() backup.Kind {
	if k := backup.Kind(c.Error); k.Known() {
		return k
	}
	return backup.Internal
}

// Detail is the message for the people who operate the site.
func (c Caught) Detail() string {
	var cause struct {
		ErrorMessage string `json:"errorMessage"`
	}
	detail := c.Cause
	if json.Unmarshal([]byte(c.Cause), &cause) == nil && cause.ErrorMessage != "" {
		detail = cause.ErrorMessage
	}
	if c.Kind() == backup.Internal {
		detail = c.Error + ": " + detail
	}
	return detail
}
