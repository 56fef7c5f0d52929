package step

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// Schedules keeps the daily run of each site where runs are triggered from.
type Schedules interface {
	// Put creates or replaces the schedule of the site.
	Put(ctx context.Context, site backup.Site) error
	// Delete removes it; an unknown one is success.
	Delete(ctx context.Context, userID, siteID string) error
}

// Sites are the use cases around sites.
type Sites struct {
	Store     SiteStore
	Schedules Schedules
	Now       func() time.Time
}

// What Put takes instead of the revision that the caller saw.
const (
	AnySite int64 = -iota // whatever is there
	NewSite               // there must be none
	OldSite               // there must be one
)

// unwanted tells whether the revision that is there, 0 for none, is another than the caller wants.
func unwanted(rev, want int64) bool {
	switch want {
	case AnySite:
		return false
	case NewSite:
		return rev != 0
	case OldSite:
		return rev == 0
	}
	return rev != want
}

// Put registers or changes a site. want is the revision that the caller saw, or AnySite, NewSite or OldSite; it
// returns the stored site and whether it is new.
func (s Sites) Put(ctx context.Context, site backup.Site, want int64) (stored backup.Site, created bool, err error) {
	site = site.WithDefaults()
	if err := site.Validate(); err != nil {
		return site, false, err
	}
	for range maxRaces {
		now := s.Now()
		site.CreatedAt, site.UpdatedAt, site.ScheduledAt, site.Rev = now, now, now, 0
		old, err := s.Store.GetSite(ctx, site.UserID, site.SiteID)
		if err != nil && !backup.Is(err, backup.NotFound) {
			return site, false, err
		}
		if err == nil {
			site.CreatedAt, site.Rev = old.CreatedAt, old.Rev
			if site.Schedule == old.Schedule {
				site.ScheduledAt = old.ScheduledAt
			}
		}
		if unwanted(site.Rev, want) {
			return old, false, backup.E(backup.Conflict, "site %s is not, or not any more, what the request takes it for", site.SiteID)
		}
		err = s.Store.PutSite(ctx, site)
		if err == nil {
			created, site.Rev = site.Rev == 0, site.Rev+1
			return site, created, s.schedule(ctx, site)
		}
		if !backup.Is(err, backup.Conflict) {
			return site, false, err
		}
	}
	return site, false, backup.E(backup.Conflict, "site %s: lost %d races in a row", site.SiteID, maxRaces)
}

// schedule follows the site. Of two changes at the same time the older one may reach the schedules last: whoever finds a
// newer site afterwards passes that one on.
func (s Sites) schedule(ctx context.Context, site backup.Site) error {
	for range maxRaces {
		if err := s.Schedules.Put(ctx, site); err != nil {
			return err
		}
		current, err := s.Store.GetSite(ctx, site.UserID, site.SiteID)
		if backup.Is(err, backup.NotFound) {
			return s.Schedules.Delete(ctx, site.UserID, site.SiteID)
		}
		if err != nil || current.Rev == site.Rev {
			return err
		}
		site = current
	}
	return backup.E(backup.Conflict, "schedule of site %s: lost %d races in a row", site.SiteID, maxRaces)
}

// Get reads a site of the user.
func (s Sites) Get(ctx context.Context, userID, siteID string) (backup.Site, error) {
	return knownSite(ctx, s.Store, userID, siteID)
}

func knownSite(ctx context.Context, sites SiteStore, userID, siteID string) (backup.Site, error) {
	absent := backup.E(backup.NotFound, "there is no site %q; register it first", siteID)
	if !backup.ValidSiteID(siteID) {
		return backup.Site{}, absent
	}
	site, err := sites.GetSite(ctx, userID, siteID)
	if backup.Is(err, backup.NotFound) {
		return backup.Site{}, absent
	}
	return site, err
}

// Delete removes a site and its schedule. Its backups stay until their time is over. The schedule goes first: a site
// without a schedule is visible and can be deleted again, a schedule without its site starts nothing. A site that stays
// after all, since it was changed meanwhile, gets its schedule back.
func (s Sites) Delete(ctx context.Context, userID, siteID string) error {
	site, err := s.Get(ctx, userID, siteID)
	if err != nil {
		return err
	}
	if err := s.Schedules.Delete(ctx, userID, siteID); err != nil {
		return err
	}
	err = s.Store.DeleteSite(ctx, userID, siteID, site.Rev)
	if err == nil || backup.Is(err, backup.NotFound) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaningTime)
	defer cancel()
	return errors.Join(err, s.schedule(ctx, site))
}
