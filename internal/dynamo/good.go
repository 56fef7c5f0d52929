package dynamo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"github.com/sitevault/sitevault/internal/backup"
)

// A scheduled site has a row that says in the due index since when it has had no good backup: since its last one, or
// since its schedule was switched on. So the sites that have waited longest are found by reading the first rows of each shard.

func goodPartition(userID, siteID string) string {
	return fmt.Sprintf("GOOD#%d", shardOf(userID+"/"+siteID))
}

// goodOfSite follows a site from old to next; a new site has a zero old. A site that was scheduled before keeps its time.
func (s *Store) goodOfSite(old, next backup.Site) ([]write, error) {
	at := goodKey(next.UserID, next.SiteID)
	was, is := old.Rev != 0 && !old.Schedule.Off, !next.Schedule.Off
	switch {
	case is && !was:
		row, err := s.put(goodRow{header{at, goodType}, goodPartition(next.UserID, next.SiteID), dueTime(s.now())}, condition{}, nil)
		return []write{row}, err
	case was && !is:
		return []write{s.remove(at, condition{}, nil)}, nil
	}
	return nil, nil
}

// RecordGoodBackup notes when a backup of the site became done. It may be called late, twice and in any order; for a
// site without a schedule it does nothing.
func (s *Store) RecordGoodBackup(ctx context.Context, userID, siteID string, at time.Time) error {
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: goodKey(userID, siteID).attributes(),
		UpdateExpression:          aws.String("SET #sk = :at"),
		ConditionExpression:       aws.String("#sk < :at"),
		ExpressionAttributeNames:  map[string]string{"#sk": DueSortKey},
		ExpressionAttributeValues: item{":at": str(dueTime(at))},
	}, s.options)
	if _, refused := errors.AsType[*types.ConditionalCheckFailedException](err); refused {
		return nil
	}
	return failure(err, "record good backup of site %s of user %s", siteID, userID)
}

// Waiting lists at most limit scheduled sites that have had no good backup since before the given time, the longest
// waiting first. The index may lag by a moment.
func (s *Store) Waiting(ctx context.Context, before time.Time, limit int) ([]backup.Waiting, error) {
	var shards [dueShards][]backup.Waiting
	group, ctx := errgroup.WithContext(ctx)
	for i := range shards {
		group.Go(func() (err error) {
			shards[i], err = s.waitingShard(ctx, i, before, limit)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, failure(err, "list sites without a backup")
	}
	all := slices.Concat(shards[:]...)
	slices.SortFunc(all, func(a, b backup.Waiting) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.SiteID, b.SiteID))
	})
	return all[:min(len(all), limit)], nil
}

func (s *Store) waitingShard(ctx context.Context, shard int, before time.Time, limit int) (sites []backup.Waiting, err error) {
	rows, err := s.query(ctx, dynamodb.QueryInput{
		IndexName:                 aws.String(DueIndex),
		KeyConditionExpression:    aws.String(DuePartitionKey + " = :pk AND " + DueSortKey + " < :before"),
		ExpressionAttributeValues: item{":pk": str(fmt.Sprintf("GOOD#%d", shard)), ":before": str(dueTime(before))},
	}, limit)
	if err != nil {
		return nil, err
	}
	for _, it := range rows {
		site, err := waitingOf(it)
		if err != nil {
			return nil, err
		}
		sites = append(sites, site)
	}
	return sites, nil
}

// waitingOf reads the keys in the index.
func waitingOf(it item) (backup.Waiting, error) {
	row, err := unmarshal[goodRow](it)
	if err != nil {
		return backup.Waiting{}, err
	}
	userID, err := url.QueryUnescape(strings.TrimPrefix(row.PK, "GOOD#"))
	if err != nil {
		return backup.Waiting{}, err
	}
	ms, err := strconv.ParseInt(row.DueSK, 10, 64)
	return backup.Waiting{UserID: userID, SiteID: row.SK, Since: time.UnixMilli(ms).UTC()}, err
}
