package dynamo

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"golang.org/x/sync/errgroup"

	"github.com/sitevault/sitevault/internal/backup"
)

// ListJobs implements step.JobStore: newest first is by job id, descending.
func (s *Store) ListJobs(ctx context.Context, q backup.JobQuery) ([]backup.Job, error) {
	list := userJobs(q.UserID)
	if q.SiteID != "" {
		list = siteJobs(q.UserID, q.SiteID)
	}
	var found []backup.Job
	for before := q.Before; len(found) < q.Limit; {
		ids, err := s.listedIDs(ctx, list, before, q.Limit-len(found))
		if err != nil {
			return nil, failure(err, "list jobs of user %s", q.UserID)
		}
		if len(ids) == 0 {
			break
		}
		jobs, err := s.jobs(ctx, ids)
		if err != nil {
			return nil, failure(err, "list jobs of user %s", q.UserID)
		}
		found = append(found, slices.DeleteFunc(jobs, s.expired)...)
		before = ids[len(ids)-1]
	}
	return found, nil
}

// listedIDs reads the ids in a list from the newest before the given one on.
func (s *Store) listedIDs(ctx context.Context, list, before string, limit int) ([]string, error) {
	q := inPartition(list, "", "", "")
	if before != "" {
		q = inPartition(list, SortKey+" < :from", before, "")
	}
	q.ScanIndexForward = aws.Bool(false)
	items, err := s.query(ctx, q, limit)
	if err != nil {
		return nil, err
	}
	return unmarshalAll(items, func(r listRow) string { return r.SK })
}

// jobs reads jobs by their ids and in their order, without those that are gone.
func (s *Store) jobs(ctx context.Context, ids []string) ([]backup.Job, error) {
	keys := make([]item, len(ids))
	for i, id := range ids {
		keys[i] = jobKey(id).attributes()
	}
	items, err := s.getAll(ctx, keys)
	if err != nil {
		return nil, err
	}
	unordered, err := unmarshalAll(items, func(r jobRow) backup.Job { return r.Job })
	if err != nil {
		return nil, err
	}
	byID := make(map[string]backup.Job, len(unordered))
	for _, j := range unordered {
		byID[j.JobID] = j
	}
	var found []backup.Job
	for _, id := range ids {
		if job, ok := byID[id]; ok {
			found = append(found, job)
		}
	}
	return found, nil
}

// dueShards spreads the due index: one partition of it takes a thousand writes a second. Rows say which shard they are
// in, so that the number may grow but not shrink.
const dueShards = 8

func shardOf(jobID string) int {
	h := fnv.New32a()
	h.Write([]byte(jobID))
	return int(h.Sum32() % dueShards)
}

func duePartition(shard int) string { return fmt.Sprintf("DUE#%d", shard) }

// dueSort orders due jobs by time.
func dueSort(at time.Time, jobID string) string { return dueTime(at) + "#" + jobID }

func dueTime(at time.Time) string { return fmt.Sprintf("%015d", at.UnixMilli()) }

// DueJobs implements step.JobStore. The index may still lack a job that has just become due; it comes with the next
// call. What the index still has but is not due any more is left out, so that fewer than limit may come although there
// are more.
func (s *Store) DueJobs(ctx context.Context, now time.Time, limit int) ([]backup.Job, error) {
	due, err := s.dueKeys(ctx, now, limit)
	if err != nil {
		return nil, failure(err, "list due jobs")
	}
	ids := make([]string, len(due))
	for i, at := range due {
		_, ids[i], _ = strings.Cut(at, "#")
	}
	jobs, err := s.jobs(ctx, ids)
	if err != nil {
		return nil, failure(err, "list due jobs")
	}
	return slices.DeleteFunc(jobs, func(j backup.Job) bool { return !j.Due(now) }), nil
}

// dueKeys merges the sort keys of the longest due of all shards.
func (s *Store) dueKeys(ctx context.Context, now time.Time, limit int) ([]string, error) {
	var shards [dueShards][]string
	group, ctx := errgroup.WithContext(ctx)
	for i := range shards {
		group.Go(func() (err error) {
			shards[i], err = s.dueShard(ctx, i, now, limit)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(shards[:]...)
	slices.Sort(all)
	return all[:min(len(all), max(limit, 0))], nil
}

func (s *Store) dueShard(ctx context.Context, shard int, now time.Time, limit int) ([]string, error) {
	items, err := s.query(ctx, dynamodb.QueryInput{
		IndexName:              aws.String(DueIndex),
		KeyConditionExpression: aws.String(DuePartitionKey + " = :pk AND " + DueSortKey + " < :end"),
		ExpressionAttributeValues: item{
			":pk": str(duePartition(shard)), ":end": str(dueTime(now.Add(time.Millisecond))),
		},
	}, limit)
	if err != nil {
		return nil, err
	}
	return unmarshalAll(items, func(r jobRow) string { return r.DueSK })
}
