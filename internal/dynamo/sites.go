package dynamo

import (
	"context"

	"github.com/sitevault/sitevault/internal/backup"
)

// GetSite implements step.SiteStore.
func (s *Store) GetSite(ctx context.Context, userID, siteID string) (backup.Site, error) {
	site, err := s.readSite(ctx, userID, siteID)
	return site.Site, failure(err, "get site %s of user %s", siteID, userID)
}

func (s *Store) readSite(ctx context.Context, userID, siteID string) (siteRow, error) {
	it, err := s.get(ctx, siteKey(userID, siteID))
	if err != nil {
		return siteRow{}, err
	}
	row, err := unmarshal[siteRow](it)
	if err == nil && row.Rev == 0 {
		err = backup.E(backup.NotFound, "no such site")
	}
	return row, err
}

// PutSite implements step.SiteStore. It reads the row first: what else changes with a site depends on its old state.
func (s *Store) PutSite(ctx context.Context, site backup.Site) error {
	return failure(s.putSite(ctx, site), "put site %s of user %s", site.SiteID, site.UserID)
}

func (s *Store) putSite(ctx context.Context, site backup.Site) error {
	moved := backup.E(backup.Conflict, "revision is not %d", site.Rev)
	var old siteRow
	if site.Rev != 0 {
		var err error
		if old, err = s.readSite(ctx, site.UserID, site.SiteID); backup.Is(err, backup.NotFound) || (err == nil && old.Rev != site.Rev) {
			return moved
		} else if err != nil {
			return err
		}
	}
	row := siteRow{header{siteKey(site.UserID, site.SiteID), siteType}, site, s.counts()}
	row.Rev++
	replaced, err := s.put(row, atRevision(site.Rev), moved)
	if err != nil {
		return err
	}
	good, err := s.goodOfSite(old.Site, site)
	if err != nil {
		return err
	}
	return s.transactUsing(ctx, s.useOfSite(old, site), append([]write{replaced}, good...)...)
}

// DeleteSite implements step.SiteStore.
func (s *Store) DeleteSite(ctx context.Context, userID, siteID string, rev int64) error {
	moved := backup.E(backup.Conflict, "revision is not %d", rev)
	old, err := s.readSite(ctx, userID, siteID)
	if err == nil && old.Rev != rev {
		err = moved
	}
	if err == nil {
		err = s.transactUsing(ctx, s.useOfSite(old, backup.Site{}),
			s.remove(siteKey(userID, siteID), atRevision(rev), moved), s.remove(goodKey(userID, siteID), condition{}, nil))
	}
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
