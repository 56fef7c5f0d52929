package dynamo

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// A user's usage is one row, and one more for each day on which bytes were fetched. Both change in the transactions of
// the rows that they count. Rows that were written before there were quotas are not counted until they are written again:
// each row says what it counts for, so that it is never taken off without having been added.

// WithQuotas is the store with quotas for each user. Without any it counts nothing, and so keeps a user's jobs from
// meeting on one row.
func (s *Store) WithQuotas(q backup.Quotas) *Store {
	limited := *s
	limited.quotas = q
	return &limited
}

func (s *Store) counts() bool { return s.quotas != backup.Quotas{} }

// use is what a transaction changes of its user's usage.
type use struct {
	userID  string
	asked   backup.Usage // what the quotas must admit
	counted backup.Usage // asked, but for rows that are not counted yet
	at      time.Time
}

func (s *Store) useOfJob(old jobRow, next backup.Job) use {
	u := use{userID: next.UserID, asked: old.UsageChange(next), at: next.UpdatedAt}
	var before, after backup.Job
	if old.Counted {
		before = old.Job
	}
	if s.counts() {
		after = next
	}
	u.counted = before.UsageChange(after)
	return u
}

// useOfSite follows a site from old to next, which is zero when it is deleted.
func (s *Store) useOfSite(old siteRow, next backup.Site) use {
	u := use{userID: cmp.Or(next.UserID, old.UserID), at: next.UpdatedAt}
	isThere := next.UserID != ""
	if isThere && old.Rev == 0 {
		u.asked.Sites = 1
	}
	if isThere && s.counts() {
		u.counted.Sites++
	}
	if old.Counted {
		u.counted.Sites--
	}
	return u
}

// useOfFile reads the job, which knows the user, when an upload comes or goes. Files of a deleted job count no more.
func (s *Store) useOfFile(ctx context.Context, g backup.FileGuard, old fileRow, next backup.File) (use, error) {
	u := use{at: next.UpdatedAt}
	if s.counts() {
		u.asked = old.UsageChange(next)
	}
	u.counted = u.asked
	u.counted.StoredBytes = s.held(next) - old.Held
	nothing := use{at: u.at}
	if u == nothing || g.Status == backup.Deleted {
		return use{}, nil
	}
	job, err := s.readJob(ctx, g.JobID)
	u.userID = job.UserID
	return u, err
}

// held is what the row of a file counts for.
func (s *Store) held(f backup.File) int64 {
	if !s.counts() {
		return 0
	}
	return f.HeldBytes()
}

func heldBy(files []fileRow) (held int64) {
	for _, f := range files {
		held += f.Held
	}
	return held
}

// errNoRoom is the refusal of the rows of a user's usage.
var errNoRoom = errors.New("the user's quota is used up")

// transactUsing makes all writes and changes the user's usage with them, if his quotas admit it.
func (s *Store) transactUsing(ctx context.Context, u use, writes ...write) error {
	err := s.transact(ctx, append(writes, s.usageWrites(u)...)...)
	if !errors.Is(err, errNoRoom) {
		return err
	}
	found, err := s.Usage(ctx, u.userID, u.at)
	return cmp.Or(err, s.quotas.Refuse(found, u.asked, u.at), error(backup.E(backup.Conflict, "the user's usage has just changed")))
}

// countMeasures stand in the row that is not of a day.
var countMeasures = []backup.Measure{backup.Sites, backup.ActiveJobs, backup.Ranges, backup.StoredBytes}

func (s *Store) usageWrites(u use) []write {
	counts := newCounting("SET #type = :type")
	counts.add(u.counted, s.quotas.Bounds(u.asked), countMeasures...)
	day := newCounting("SET #type = :type, #ttl = :ttl")
	day.add(u.counted, s.quotas.Bounds(u.asked), backup.FetchedBytes)
	var writes []write
	if counts.any {
		writes = append(writes, s.update(usageKey(u.userID), counts.expression, counts.condition, errNoRoom))
	}
	if day.any {
		day.names["#ttl"], day.values[":ttl"] = TTLAttribute, number(ttl(u.at.Add(dayRetention)))
		writes = append(writes, s.update(dayKey(u.userID, u.asked.Day), day.expression, day.condition, errNoRoom))
	}
	return writes
}

// dayRetention is how long after its last change the row of a day lives.
const dayRetention = 48 * time.Hour

// counting is the update of one row of a usage.
type counting struct {
	expression string
	condition
	any bool
}

func newCounting(set string) counting {
	return counting{expression: set, condition: condition{
		names: map[string]string{"#type": TypeAttribute}, values: item{":type": str(usageType)},
	}}
}

// add counts the measures that the row holds, and demands what bounds them.
func (c *counting) add(change backup.Usage, bounds []backup.Bound, measures ...backup.Measure) {
	separator := " ADD "
	for _, m := range measures {
		if n := change.Of(m); n != 0 {
			c.expression += separator + string(m) + " :" + string(m)
			c.values[":"+string(m)] = number(n)
			separator, c.any = ", ", true
		}
	}
	for _, b := range bounds {
		if slices.Contains(measures, b.Measure) {
			c.demand(b)
		}
	}
}

// demand adds a bound to the condition. A count that is absent is zero.
func (c *counting) demand(b backup.Bound) {
	name, most := string(b.Measure), ":most"+string(b.Measure)
	term := name + " <= " + most
	if b.AtMost >= 0 {
		term = "(attribute_not_exists(" + name + ") OR " + term + ")"
	}
	if c.condition.expression != "" {
		term = c.condition.expression + " AND " + term
	}
	c.condition.expression, c.values[most], c.any = term, number(b.AtMost), true
}

// Usage implements step.UsageStore.
func (s *Store) Usage(ctx context.Context, userID string, at time.Time) (backup.Usage, error) {
	total := backup.Usage{Day: backup.UsageDay(at)}
	for _, k := range []key{usageKey(userID), dayKey(userID, total.Day)} {
		it, err := s.get(ctx, k)
		if err != nil {
			return backup.Usage{}, failure(err, "usage of user %s", userID)
		}
		row, err := unmarshal[usageRow](it)
		if err != nil {
			return backup.Usage{}, failure(err, "usage of user %s", userID)
		}
		row.Day = total.Day
		total = total.Plus(row.Usage)
	}
	return total, nil
}
