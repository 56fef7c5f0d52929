package sqlite

import (
	"context"
	"iter"

	"github.com/sitevault/sitevault/internal/backup"
)

var sites = newTable("sites", []string{"user_id", "site_id"}, func(s *backup.Site) []column {
	return []column{
		{"user_id", &s.UserID},
		{"site_id", &s.SiteID},
		{"providers", document[[]backup.Provider]{&s.Providers}},
		{"schedule", document[backup.Schedule]{&s.Schedule}},
		{"scheduled_at", millis{&s.ScheduledAt}},
		{"keep_days", &s.KeepDays},
		{"limits", document[backup.Limits]{&s.Limits}},
		{"created_at", millis{&s.CreatedAt}},
		{"updated_at", millis{&s.UpdatedAt}},
		{"rev", &s.Rev},
	}
})

// GetSite implements step.SiteStore.
func (s *Store) GetSite(ctx context.Context, userID, siteID string) (backup.Site, error) {
	site, err := findSite(ctx, s.reads, userID, siteID)
	if err == nil && site.Rev == 0 {
		err = backup.E(backup.NotFound, "no such site")
	}
	return site, failure(err, "get site %s of user %s", siteID, userID)
}

func findSite(ctx context.Context, q *statements, userID, siteID string) (backup.Site, error) {
	return sites.find(ctx, q, "WHERE user_id = ? AND site_id = ?", userID, siteID)
}

// PutSite implements step.SiteStore.
func (s *Store) PutSite(ctx context.Context, site backup.Site) error {
	err := s.writer.write(ctx, func(ctx context.Context, t *tx) error {
		old, err := findSite(ctx, t.statements, site.UserID, site.SiteID)
		if err != nil {
			return err
		}
		if old.Rev != site.Rev {
			return backup.E(backup.Conflict, "revision is %d, not %d", old.Rev, site.Rev)
		}
		if old.Rev == 0 {
			if err := t.use(ctx, site.UserID, backup.Usage{Sites: 1}, site.UpdatedAt); err != nil {
				return err
			}
		}
		next := site
		next.Rev++
		return sites.put(ctx, t.statements, next)
	})
	return failure(err, "put site %s of user %s", site.SiteID, site.UserID)
}

// DeleteSite implements step.SiteStore.
func (s *Store) DeleteSite(ctx context.Context, userID, siteID string, rev int64) error {
	err := s.writer.write(ctx, func(ctx context.Context, t *tx) error {
		old, err := findSite(ctx, t.statements, userID, siteID)
		switch {
		case err != nil:
			return err
		case old.Rev == 0:
			return backup.E(backup.NotFound, "no such site")
		case old.Rev != rev:
			return backup.E(backup.Conflict, "revision is %d, not %d", old.Rev, rev)
		}
		if _, err = t.exec(ctx, "DELETE FROM sites WHERE user_id = ? AND site_id = ?", userID, siteID); err != nil {
			return err
		}
		return t.use(ctx, userID, backup.Usage{Sites: -1}, old.UpdatedAt)
	})
	return failure(err, "delete site %s of user %s", siteID, userID)
}

// ListSites implements step.SiteStore.
func (s *Store) ListSites(ctx context.Context, q backup.SiteQuery) ([]backup.Site, error) {
	list, err := sites.list(ctx, s.reads, "WHERE user_id = ? AND site_id > ? ORDER BY site_id LIMIT ?", q.UserID, q.After, max(q.Limit, 0))
	return list, failure(err, "list sites of user %s", q.UserID)
}

// sitesPerPage bounds what AllSites holds in memory.
const sitesPerPage = 500

// AllSites yields the sites of all users in the order of user and site id, for the clock of a service that starts the
// daily runs itself. No connection is held between two sites; the first error ends it.
func (s *Store) AllSites(ctx context.Context) iter.Seq2[backup.Site, error] {
	return func(yield func(backup.Site, error) bool) {
		var last backup.Site
		for full := true; full; {
			page, err := sites.list(ctx, s.reads, "WHERE (user_id, site_id) > (?, ?) ORDER BY user_id, site_id LIMIT ?",
				last.UserID, last.SiteID, sitesPerPage)
			if err != nil {
				yield(backup.Site{}, failure(err, "list all sites"))
				return
			}
			for _, last = range page {
				if !yield(last, nil) {
					return
				}
			}
			full = len(page) == sitesPerPage
		}
	}
}
