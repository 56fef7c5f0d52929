package dynamo

import (
	"context"
	"errors"
	"fmt"
	"net/url"
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
// since its schedule was switched on. So the site that has waited longest is found by reading one row of each shard.

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

// LongestWithoutBackup is the scheduled site that has had no good backup for the longest time, and since when; the zero
// time when no site is scheduled. The index may lag by a moment.
func (s *Store) LongestWithoutBackup(ctx context.Context) (userID, siteID string, since time.Time, err error) {
	var first [dueShards][]item
	group, gctx := errgroup.WithContext(ctx)
	for i := range first {
		group.Go(func() (err error) {
			first[i], err = s.query(gctx, dynamodb.QueryInput{
				IndexName:                 aws.String(DueIndex),
				KeyConditionExpression:    aws.String(DuePartitionKey + " = :pk"),
				ExpressionAttributeValues: item{":pk": str(fmt.Sprintf("GOOD#%d", i))},
			}, 1)
			return err
		})
	}
	err = group.Wait()
	for _, rows := range first {
		for _, row := range rows {
			u, id, at, e := goodOf(row)
			if err = errors.Join(err, e); since.IsZero() || at.Before(since) {
				userID, siteID, since = u, id, at
			}
		}
	}
	return userID, siteID, since, failure(err, "find the site longest without a backup")
}

// goodOf reads the keys in the index.
func goodOf(it item) (userID, siteID string, since time.Time, err error) {
	row, err := unmarshal[goodRow](it)
	if err != nil {
		return "", "", since, err
	}
	userID, err = url.QueryUnescape(strings.TrimPrefix(row.PK, "GOOD#"))
	if err != nil {
		return "", "", since, err
	}
	ms, err := strconv.ParseInt(row.DueSK, 10, 64)
	return userID, row.SK, time.UnixMilli(ms).UTC(), err
}
