package dynamo

import (
	"context"

	"github.com/sitevault/sitevault/internal/backup"
)

// GetSite implements step.SiteStore.
func (s *Store) GetSite(ctx context.Context, userID, siteID string) (backup.Site, error) {
	site, err := s.readSite(ctx, userID, siteID)
	return site, failure(err, "get site %s of user %s", siteID, userID)
}

func (s *Store) readSite(ctx context.Context, userID, siteID string) (backup.Site, error) {
	it, err := s.get(ctx, siteKey(userID, siteID))
	if err != nil {
		return backup.Site{}, err
	}
	row, err := unmarshal[siteRow](it)
	if err == nil && row.Rev == 0 {
		err = backup.E(backup.NotFound, "no such site")
	}
	return row.Site, err
}

// PutSite implements step.SiteStore.
func (s *Store) PutSite(ctx context.Context, site backup.Site) error {
	row := siteRow{header{siteKey(site.UserID, site.SiteID), siteType}, site}
	row.Rev++
	w, err := s.put(row, atRevision(site.Rev), backup.E(backup.Conflict, "revision is not %d", site.Rev))
	if err == nil {
		err = s.transact(ctx, w)
	}
	return failure(err, "put site %s of user %s", site.SiteID, site.UserID)
}

// DeleteSite implements step.SiteStore.
func (s *Store) DeleteSite(ctx context.Context, userID, siteID string, rev int64) error {
	moved := backup.E(backup.Conflict, "revision is not %d", rev)
	err := s.transact(ctx, s.remove(siteKey(userID, siteID), atRevision(rev), moved))
	if backup.Is(err, backup.Conflict) {
		if _, gone := s.readSite(ctx, userID, siteID); gone != nil {
			err = gone
		}
	}
	return failure(err, "delete site %s of user %s", siteID, userID)
}

// ListSites implements step.SiteStore.
func (s *Store) ListSites(ctx context.Context, q backup.SiteQuery) ([]backup.Site, error) {
	in := inPartition(userSites(q.UserID), "", "", "")
	if q.After != "" {
		in = inPartition(userSites(q.UserID), SortKey+" > :from", q.After, "")
	}
	items, err := s.query(ctx, in, q.Limit)
	if err != nil {
		return nil, failure(err, "list sites of user %s", q.UserID)
	}
	sites, err := unmarshalAll(items, func(r siteRow) backup.Site { return r.Site })
	return sites, failure(err, "list sites of user %s", q.UserID)
}
