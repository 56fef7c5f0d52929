package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	jobIDPattern    = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`) // a ULID in canonical form
	siteIDPattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	providerPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	secretPattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	zonePattern     = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`)
	userIDPattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	plainPattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
)

// ValidJobID tells whether s is a job id: a ULID of 26 upper-case characters.
func ValidJobID(s string) bool { return jobIDPattern.MatchString(s) }

// crockford are the digits of a ULID in their order.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// JobIDAfter is id if it sorts after newest, the newest id of the same site ("": there is none), and else the id that
// comes next after newest. So the ids of a site never go back, whatever the clock does.
func JobIDAfter(newest, id string) string {
	if id > newest {
		return id
	}
	next := []byte(newest)
	for i := len(next) - 1; i >= 0; i-- {
		if at := strings.IndexByte(crockford, next[i]) + 1; at < len(crockford) {
			next[i] = crockford[at]
			break
		}
		next[i] = crockford[0]
	}
	return string(next)
}

// ValidSiteID tells whether s is a site id: lower-case letters, digits and inner hyphens, at most 63.
func ValidSiteID(s string) bool { return siteIDPattern.MatchString(s) }

// ValidProviderName tells whether s names a provider: a lower-case letter, then letters, digits, hyphens, at most 32.
func ValidProviderName(s string) bool { return providerPattern.MatchString(s) }

// ValidSecretRef tells whether s can name a secret: lower-case letters, digits and hyphens, at most 63.
func ValidSecretRef(s string) bool { return secretPattern.MatchString(s) }

// ValidUserID tells whether s can be the id of a user. Ids with upper-case letters are those of earlier versions.
func ValidUserID(s string) bool { return userIDPattern.MatchString(s) }

// LocalUser is whom everything belongs to without sign-in. No subject has this id.
const LocalUser = "local"

// digestPrefix begins the ids that are digests, and no other id.
const digestPrefix = "u-"

// UserID turns the subject of a token into the id that rows, secrets and object keys carry. Different subjects have
// different ids, which stay different where upper and lower case are the same, as in the folders of some file systems.
// A subject that is plain is its own id. Any other, and one that could be taken for a digest or for the local user,
// becomes a digest, so that no key can be steered from outside.
func UserID(subject string) string {
	if plainPattern.MatchString(subject) && subject != LocalUser && !strings.HasPrefix(subject, digestPrefix) {
		return subject
	}
	sum := sha256.Sum256([]byte(subject))
	return digestPrefix + hex.EncodeToString(sum[:16])
}

// ValidSubject tells whether a token's subject names somebody. The empty one could be shared by many, and so could one that
// was no valid text in the token: decoders make the same character of all that is not.
func ValidSubject(s string) bool { return s != "" && !strings.ContainsRune(s, utf8.RuneError) }

// TicketDigest is what a ticket is stored under: the store never holds what opens a socket.
func TicketDigest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// ExecutionName is the name of the one execution of an attempt: "<jobId>-<attempt>".
func ExecutionName(jobID string, attempt int) string {
	return jobID + "-" + strconv.Itoa(attempt)
}

// ParseExecutionName is the inverse of ExecutionName.
func ParseExecutionName(name string) (jobID string, attempt int, err error) {
	jobID, number, _ := strings.Cut(name, "-")
	attempt, err = strconv.Atoi(number)
	if err != nil || attempt < 1 || !ValidJobID(jobID) || ExecutionName(jobID, attempt) != name {
		return "", 0, fmt.Errorf("execution name %q is not <jobId>-<attempt>", name)
	}
	return jobID, attempt, nil
}

// Prefix is the key prefix of all objects of a job, with a slash at its end. Nothing else lives under it.
func (j Job) Prefix() string { return j.UserID + "/" + j.SiteID + "/" + j.JobID + "/" }

// ManifestKey is the key of the job's manifest, which is written last.
func (j Job) ManifestKey() string { return j.Prefix() + "manifest.json" }

// FileKey is the key of one file's object: "<prefix><file>-a<attempt>-<upload>.zip". The attempt is the one that
// opened the upload: a sweep after a failed attempt leaves the keys of later ones alone (see KeyAttempt). upload counts
// the file's uploads from 1 (see File.Uploads), so that a second upload of the file does not meet the first.
func (j Job) FileKey(file string, attempt, upload int) string {
	return j.Prefix() + file + "-a" + strconv.Itoa(attempt) + "-" + strconv.Itoa(upload) + ".zip"
}

// UploadKeys are all keys under which an upload of the job may be open, whether or not a row tells of it: a process that
// ends right after it has created an upload writes no row. files are the rows of the job's files.
func (j Job) UploadKeys(files []File) []string {
	opened := map[string]int{}
	for _, p := range j.Providers {
		opened[p.Name] = 0
	}
	var keys []string
	for _, f := range files { // also those of providers that the site no longer has
		opened[f.Name] = f.Uploads
		if f.Key != "" {
			keys = append(keys, f.Key)
		}
	}
	for name, uploads := range opened {
		for attempt := 1; attempt <= j.Attempt; attempt++ {
			for upload := 1; upload <= uploads+1; upload++ {
				keys = append(keys, j.FileKey(name, attempt, upload))
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

var fileKeyPattern = regexp.MustCompile(`-a([0-9]{1,9})-[^-/]+\.zip$`)

// KeyAttempt is the attempt in a key made by FileKey; 0 for any other key.
func KeyAttempt(key string) int {
	m := fileKeyPattern.FindStringSubmatch(key)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // nine digits always fit
	return n
}
