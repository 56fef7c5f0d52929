package dynamo

import (
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sitevault/sitevault/internal/backup"
)

// gates is how many gates a job has: part n passes gate n mod gates, and each gate counts what has passed it. A hundred
// parts a second are twelve a gate, each of which holds its gate for about 8 ms: one in ten meets another and is tried
// again (docs/store.md).
//
// A gate carries the attempt while the job is running, and for each file the upload while it is open. Whatever changes
// the one or the other, changes all gates in the same transaction; so a part needs no look at the job and the file.
const gates = 8

// gateAttempt is the attempt whose parts a job admits; 0: none.
func gateAttempt(j backup.Job) int {
	if j.Status != backup.Running {
		return 0
	}
	return j.Attempt
}

// pass is what a part must show to enter a file: the attempt and the upload of its writer.
func pass(attempt int, uploadID string) string { return strconv.Itoa(attempt) + "/" + uploadID }

// gatePass is the pass that a file admits; "": none.
func gatePass(f backup.File) string {
	if f.Status != backup.FileOpen {
		return ""
	}
	return pass(f.Attempt, f.UploadID)
}

// Attributes of a gate. Those of a file start with its name.
const (
	attemptAttribute = "attempt"
	passAttribute    = ":pass"
	partsAttribute   = ":parts" // of the current upload
	bytesAttribute   = ":bytes" // of the current upload
	writesAttribute  = ":writes"
	atAttribute      = ":at" // when the last part was recorded
)

// gatesOfJob opens or shuts the gates of a job as it goes from old to next.
func (s *Store) gatesOfJob(old, next backup.Job) []write {
	expression := "SET #type = :type"
	c := condition{
		names:  map[string]string{"#type": TypeAttribute},
		values: item{":type": str(gateType)},
	}
	if attempt := gateAttempt(next); attempt != gateAttempt(old) {
		expression += ", #attempt = :attempt"
		c.names["#attempt"], c.values[":attempt"] = attemptAttribute, number(int64(attempt))
	}
	if expires := ttlOf(next); expires != ttlOf(old) {
		expression += ", #ttl = :ttl"
		c.names["#ttl"], c.values[":ttl"] = TTLAttribute, number(expires)
	}
	if len(c.names) == 1 {
		return nil
	}
	return s.atGates(next.JobID, expression, c)
}

// gatesOfFile lets the gates follow a file from old to next. A new upload counts from zero.
func (s *Store) gatesOfFile(old, next backup.File) []write {
	admitted, sameUpload := gatePass(next), old.UploadID == next.UploadID
	if admitted == gatePass(old) && sameUpload {
		return nil
	}
	expression := "SET #type = :type, #pass = :pass"
	c := condition{
		names:  map[string]string{"#type": TypeAttribute, "#pass": next.Name + passAttribute},
		values: item{":type": str(gateType), ":pass": str(admitted)},
	}
	if !sameUpload {
		expression += ", #parts = :zero, #bytes = :zero, #at = :zero"
		c.names["#parts"], c.names["#bytes"], c.names["#at"] = next.Name+partsAttribute, next.Name+bytesAttribute, next.Name+atAttribute
		c.values[":zero"] = number(0)
	}
	return s.atGates(next.JobID, expression, c)
}

func (s *Store) atGates(jobID, expression string, c condition) []write {
	writes := make([]write, gates)
	for i := range writes {
		writes[i] = s.update(gateKey(jobID, i), expression, c, nil)
	}
	return writes
}

// enter counts a part at its gate, if the gate admits it.
func (s *Store) enter(w backup.PartWrite) write {
	return s.update(gateKey(w.JobID, w.Part.Number%gates), "SET #at = :at ADD #parts :one, #bytes :bytes, #writes :one", condition{
		expression: "#attempt = :attempt AND #pass = :pass",
		names: map[string]string{
			"#attempt": attemptAttribute, "#pass": w.File + passAttribute,
			"#parts": w.File + partsAttribute, "#bytes": w.File + bytesAttribute, "#writes": w.File + writesAttribute, "#at": w.File + atAttribute,
		},
		values: item{
			":attempt": number(int64(w.Attempt)), ":pass": str(pass(w.Attempt, w.UploadID)),
			":one": number(1), ":bytes": number(w.Part.SizeBytes), ":at": millis(w.At),
		},
	}, backup.E(backup.StaleAttempt, "no part of upload %q is admitted in attempt %d", w.UploadID, w.Attempt))
}

// addCounts adds to a file what has passed one of its job's gates.
func addCounts(f *backup.File, gate item) error {
	for _, count := range []struct {
		attribute string
		add       func(n int64)
	}{
		{partsAttribute, func(n int64) { f.Recorded.Parts += int(n) }},
		{bytesAttribute, func(n int64) { f.Recorded.Bytes += n }},
		{writesAttribute, func(n int64) { f.Changes += n }},
		{atAttribute, func(n int64) { f.Recorded.At = later(f.Recorded.At, n) }},
	} {
		value, ok := gate[f.Name+count.attribute].(*types.AttributeValueMemberN)
		if !ok {
			continue // nothing has passed yet
		}
		n, err := strconv.ParseInt(value.Value, 10, 64)
		if err != nil {
			return fmt.Errorf("gate counter %s%s: %w", f.Name, count.attribute, err)
		}
		count.add(n)
	}
	return nil
}

// later is the later of two times; atMillis is 0 as long as no part of the current upload is recorded.
func later(at time.Time, atMillis int64) time.Time {
	if other := time.UnixMilli(atMillis).UTC(); atMillis > 0 && other.After(at) {
		return other
	}
	return at
}
