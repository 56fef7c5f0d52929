// Package stepfunctions starts and stops executions of the state machine on AWS Step Functions.
package stepfunctions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// Executions are the executions of one state machine of type Standard.
type Executions struct {
	client  *sfn.Client
	machine string // ARN
	prefix  string // of the ARNs of its executions
}

var _ step.Executions = (*Executions)(nil)

// New takes the ARN of the state machine.
func New(client *sfn.Client, machineARN string) (*Executions, error) {
	// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-amazon-resource-names.html (read 2026-11)
	before, name, ok := strings.Cut(machineARN, ":stateMachine:")
	if !ok || name == "" || !strings.HasPrefix(before, "arn:") {
		return nil, fmt.Errorf("%q is not the ARN of a state machine", machineARN)
	}
	return &Executions{client: client, machine: machineARN, prefix: before + ":execution:" + name + ":"}, nil
}

// Start implements step.Executions. Starting a running execution again with the same input is success for Step Functions
// itself. ExecutionAlreadyExists says that the execution of this attempt has ended: its input follows from its name, so
// that there is no other by this name, and its end is told by its event or, at the latest, by the job's deadline.
func (e *Executions) Start(ctx context.Context, job backup.Job) error {
	name := backup.ExecutionName(job.JobID, job.Attempt)
	input, err := json.Marshal(step.StartJobIn{JobID: job.JobID, Attempt: job.Attempt})
	if err != nil {
		return fmt.Errorf("start execution %s: %w", name, err)
	}
	_, err = e.client.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &e.machine, Name: &name, Input: aws.String(string(input)),
	})
	if _, known := errors.AsType[*types.ExecutionAlreadyExists](err); known {
		return nil
	}
	return failure(err, "start", name)
}

// Stop implements step.Executions. Stopping an execution that has ended is success for Step Functions itself.
func (e *Executions) Stop(ctx context.Context, jobID string, attempt int) error {
	name := backup.ExecutionName(jobID, attempt)
	_, err := e.client.StopExecution(ctx, &sfn.StopExecutionInput{
		ExecutionArn: aws.String(e.prefix + name), Error: aws.String(string(backup.StaleAttempt)), Cause: aws.String("the job has ended without it"),
	})
	if _, unknown := errors.AsType[*types.ExecutionDoesNotExist](err); unknown {
		return nil
	}
	return failure(err, "stop", name)
}

func failure(err error, operation, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s execution %s: %w", operation, name, err)
	}
	return backup.E(backup.StoreUnavailable, "%s execution %s: %w", operation, name, err)
}
