// Package statemachine holds the one description of the flow of a backup. It runs on AWS Step Functions and, unchanged,
// in process on one machine.
package statemachine

import _ "embed"

// Backup is backup.asl.json, in the Amazon States Language. The Resource of a Task is the placeholder "${<state>}":
// on AWS it becomes the ARN of the state's function, in process the handler of that name.
//
//go:embed backup.asl.json
var Backup []byte
