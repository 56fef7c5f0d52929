package integration_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/sitevault/sitevault/internal/events"
)

// queue holds what a rule on the service's bus has sent to it.
type queue struct {
	*account
	url      string
	received []busEvent
}

// busEvent is what EventBridge delivers.
type busEvent struct {
	Source     string       `json:"source"`
	DetailType string       `json:"detail-type"`
	Detail     events.Event `json:"detail"`
}

// eventTime is the longest that an event may take from the write to the queue.
const eventTime = 30 * time.Second

// listen makes a queue the target of a rule for all of the service's events, as somebody's own program would be.
func (d *deployment) listen(t *testing.T) *queue {
	t.Helper()
	q := &queue{account: d.account}
	var made struct {
		QueueURL string `json:"QueueUrl"`
	}
	d.json(t, "sqs", "AmazonSQS.CreateQueue", map[string]string{"QueueName": "listener"}, &made)
	q.url = made.QueueURL
	bus, rule := aws.String(name), aws.String("listener")
	client := eventbridge.NewFromConfig(d.config)
	_, err := client.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: rule, EventBusName: bus, EventPattern: aws.String(`{"source":["` + events.Source + `"]}`)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: rule, EventBusName: bus, Targets: []types.Target{
		{Id: aws.String("queue"), Arn: aws.String("arn:aws:sqs:" + region + ":" + accountID + ":listener")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// hears waits until an event of the job that ok accepts has come, and returns all of the job's.
func (q *queue) hears(t *testing.T, jobID string, ok func(busEvent) bool) (heard []busEvent) {
	t.Helper()
	await(t, "an event of job "+jobID, eventTime, func() bool {
		for q.receive(t) {
		}
		heard = slices.DeleteFunc(slices.Clone(q.received), func(e busEvent) bool { return e.Detail.JobID != jobID })
		return slices.ContainsFunc(heard, ok)
	})
	return heard
}

// receive takes what is there, and tells whether there was something.
func (q *queue) receive(t *testing.T) bool {
	t.Helper()
	var got struct {
		Messages []struct{ Body, ReceiptHandle string }
	}
	q.json(t, "sqs", "AmazonSQS.ReceiveMessage", map[string]any{"QueueUrl": q.url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0}, &got)
	for _, m := range got.Messages {
		var e busEvent
		if err := json.Unmarshal([]byte(m.Body), &e); err != nil {
			t.Fatalf("%v in %s", err, m.Body)
		}
		q.received = append(q.received, e)
		q.json(t, "sqs", "AmazonSQS.DeleteMessage", map[string]string{"QueueUrl": q.url, "ReceiptHandle": m.ReceiptHandle}, &struct{}{})
	}
	return len(got.Messages) > 0
}
