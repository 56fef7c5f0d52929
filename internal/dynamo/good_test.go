package dynamo_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

// onBoth runs a test against both imitations of DynamoDB.
func onBoth(t *testing.T, test func(t *testing.T, client *dynamodb.Client)) {
	t.Run("minidyn", func(t *testing.T) { test(t, newClient("http://minidyn", inProcess{minidyn.NewServer()})) })
	t.Run("DynamoDB Local", func(t *testing.T) { test(t, startLocal(t)) })
}

func second[A, B any](_ A, _ B, err error) error { return err }

func putSite(t *testing.T, store *dynamo.Store, userID, siteID string, rev int64, off bool) {
	t.Helper()
	site := backup.Site{UserID: userID, SiteID: siteID, Schedule: backup.Schedule{Off: off, At: "03:00"}, Rev: rev}
	if err := store.PutSite(t.Context(), site); err != nil {
		t.Fatal(err)
	}
}

// The scheduled site that has waited longest is known at any time: from its schedule's beginning, or its last good backup.
func TestWaiting(t *testing.T) {
	onBoth(t, func(t *testing.T, client *dynamodb.Client) {
		_, table := newTable(t, client)
		now := epoch
		store := dynamo.New(client, table, func() time.Time { return now }, func() float64 { return 0.5 })
		want := func(userID, siteID string, since time.Time, when string) {
			t.Helper()
			waiting, err := store.Waiting(t.Context(), epoch.AddDate(1, 0, 0), 1)
			var first backup.Waiting
			if len(waiting) > 0 {
				first = waiting[0]
			}
			if err != nil || len(waiting) > 1 || first != (backup.Waiting{UserID: userID, SiteID: siteID, Since: since}) {
				t.Errorf("%s: %+v, %v; want %q of %q since %s", when, waiting, err, siteID, userID, since)
			}
		}
		good := func(userID, siteID string, at time.Time) {
			t.Helper()
			if err := store.RecordGoodBackup(t.Context(), userID, siteID, at); err != nil {
				t.Fatal(err)
			}
		}
		want("", "", time.Time{}, "no site")
		putSite(t, store, "a#b/c", "unscheduled", 0, true)
		good("a#b/c", "unscheduled", epoch)
		want("", "", time.Time{}, "no scheduled site")
		putSite(t, store, "a#b/c", "blog", 0, false)
		now = epoch.Add(time.Hour)
		putSite(t, store, "bob", "shop", 0, false)
		want("a#b/c", "blog", epoch, "two new sites")
		good("a#b/c", "blog", epoch.Add(3*time.Hour))
		want("bob", "shop", epoch.Add(time.Hour), "a good backup of the first")
		good("bob", "shop", epoch.Add(4*time.Hour))
		good("bob", "shop", epoch.Add(2*time.Hour))
		want("a#b/c", "blog", epoch.Add(3*time.Hour), "an older one told later")
		putSite(t, store, "a#b/c", "blog", 1, false)
		want("a#b/c", "blog", epoch.Add(3*time.Hour), "a change of the site")
		putSite(t, store, "a#b/c", "blog", 2, true)
		want("bob", "shop", epoch.Add(4*time.Hour), "the first one's schedule off")
		now = epoch.Add(5 * time.Hour)
		putSite(t, store, "a#b/c", "blog", 3, false)
		good("bob", "shop", epoch.Add(6*time.Hour))
		want("a#b/c", "blog", now, "on again: a new beginning")
		if err := store.DeleteSite(t.Context(), "a#b/c", "blog", 4); err != nil {
			t.Fatal(err)
		}
		good("a#b/c", "blog", epoch.Add(7*time.Hour))
		want("bob", "shop", epoch.Add(6*time.Hour), "deleted")
		if due, err := store.DueJobs(t.Context(), epoch.Add(24*time.Hour), 10); len(due) != 0 || err != nil {
			t.Errorf("sites count as due jobs: %+v, %v", due, err)
		}
	})
}

// Sites that wait come in the order of their waiting, over all shards, and only those that have waited long enough.
func TestWaitingOrder(t *testing.T) {
	client := newClient("http://minidyn", inProcess{minidyn.NewServer()})
	_, table := newTable(t, client)
	now := epoch
	store := dynamo.New(client, table, func() time.Time { return now }, func() float64 { return 0.5 })
	for i := range 30 {
		now = epoch.Add(time.Duration(29-i) * time.Minute)
		putSite(t, store, "ada", fmt.Sprintf("site-%02d", i), 0, false)
	}
	for _, tc := range []struct{ minutes, limit, want int }{{0, 100, 0}, {1, 100, 1}, {30, 100, 30}, {30, 7, 7}} {
		waiting, err := store.Waiting(t.Context(), epoch.Add(time.Duration(tc.minutes)*time.Minute), tc.limit)
		if err != nil || len(waiting) != tc.want {
			t.Errorf("%d minutes, limit %d: %d sites, %v", tc.minutes, tc.limit, len(waiting), err)
		}
		for i, w := range waiting {
			if w.SiteID != fmt.Sprintf("site-%02d", 29-i) || !w.Since.Equal(epoch.Add(time.Duration(i)*time.Minute)) {
				t.Errorf("place %d: %+v", i, w)
			}
		}
	}
}
