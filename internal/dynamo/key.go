package dynamo

import (
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/sitevault/sitevault/internal/backup"
)

// key is the primary key of a row.
type key struct {
	PK string `dynamodbav:"pk"`
	SK string `dynamodbav:"sk"`
}

func (k key) attributes() item {
	return item{PartitionKey: &types.AttributeValueMemberS{Value: k.PK}, SortKey: &types.AttributeValueMemberS{Value: k.SK}}
}

// partition joins names so that no two lists of names make the same key, whatever signs they hold: one tenant must
// never reach into the partition of another.
func partition(kind string, names ...string) string {
	for _, n := range names {
		kind += "#" + url.QueryEscape(n)
	}
	return kind
}

func jobKey(jobID string) key        { return key{partition("JOB", jobID), "JOB"} }
func fileKey(jobID, name string) key { return key{partition("JOB", jobID), "FILE#" + name} }

// errorKey sorts between files and gates, so that one query reads all of them.
func errorKey(jobID, file string) key { return key{partition("JOB", jobID), "FILE-ERROR#" + file} }
func gateKey(jobID string, number int) key {
	return key{partition("JOB", jobID), fmt.Sprintf("GATE#%d", number)}
}

// partPartition holds the parts of one upload.
func partPartition(jobID, file, uploadID string) string {
	return partition("PARTS", jobID, file, uploadID)
}

// partSort orders the parts by their numbers, which have five digits at most.
func partSort(number int) string { return fmt.Sprintf("%05d", number) }

func slotKey(j backup.Job) key { return key{partition("SLOT", j.UserID, j.SiteID), "SLOT"} }

func newestKey(j backup.Job) key { return key{partition("NEWEST", j.UserID, j.SiteID), "NEWEST"} }

// userJobs and siteJobs list jobs by their ids, which sort by time.
func userJobs(userID string) string         { return partition("JOBS", userID) }
func siteJobs(userID, siteID string) string { return partition("JOBS", userID, siteID) }

func listKeys(j backup.Job) []key {
	return []key{{userJobs(j.UserID), j.JobID}, {siteJobs(j.UserID, j.SiteID), j.JobID}}
}

func idempotencyKey(userID, name string) key { return key{partition("KEY", userID, name), "KEY"} }
func userSites(userID string) string         { return partition("SITES", userID) }
func siteKey(userID, siteID string) key      { return key{userSites(userID), siteID} }
func ticketKey(digest string) key            { return key{partition("TICKET", digest), "TICKET"} }

// usageKey and dayKey are what a user takes up, and what of it belongs to a day.
func usageKey(userID string) key    { return key{partition("USAGE", userID), "USAGE"} }
func dayKey(userID, day string) key { return key{partition("USAGE", userID), "DAY#" + day} }

// goodKey is the row of a site's last good backup.
func goodKey(userID, siteID string) key { return key{partition("GOOD", userID), siteID} }

// A socket's partition holds itself and the jobs that it watches, that of a job's watchers the ids of the sockets.
const watchPrefix = "WATCH#"

func socketKey(socketID string) key         { return key{partition("SOCKET", socketID), "SOCKET"} }
func socketSlotKey(userID, slot string) key { return key{partition("SOCKETS", userID), slot} }
func watchKey(socketID, jobID string) key {
	return key{partition("SOCKET", socketID), watchPrefix + jobID}
}
func watchers(jobID string) string          { return partition("WATCH", jobID) }
func watcherKey(jobID, socketID string) key { return key{watchers(jobID), socketID} }
func pushKey(jobID string) key              { return key{partition("PUSH", jobID), "PUSH"} }
