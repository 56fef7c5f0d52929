package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

func (s server) registerSites(api huma.API) {
	route(s, api, huma.Operation{
		OperationID: "put-site", Method: http.MethodPut, Path: "/site/{siteId}", Tags: []string{"Sites"},
		Summary: "Register or change a site", Errors: append(badBody, http.StatusConflict, http.StatusPreconditionFailed),
	}, s.putSite)
	put := api.OpenAPI().Paths[Prefix+"/site/{siteId}"].Put
	created := *put.Responses["200"]
	created.Description = http.StatusText(http.StatusCreated)
	put.Responses["201"] = &created
	route(s, api, huma.Operation{
		OperationID: "get-site", Method: http.MethodGet, Path: "/site/{siteId}", Tags: []string{"Sites"},
		Summary: "Read a site", Errors: []int{http.StatusNotFound},
	}, s.getSite)
	route(s, api, huma.Operation{
		OperationID: "delete-site", Method: http.MethodDelete, Path: "/site/{siteId}", Tags: []string{"Sites"},
		Summary: "Remove a site; its backups stay until their time is over", DefaultStatus: http.StatusNoContent, Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, s.deleteSite)
	route(s, api, huma.Operation{
		OperationID: "list-sites", Method: http.MethodGet, Path: "/site", Tags: []string{"Sites"}, Summary: "List sites",
	}, s.listSites)
}

// SiteBody is what a client registers.
type SiteBody struct {
	Providers []backup.Provider `json:"providers" minItems:"1" maxItems:"8" doc:"The export APIs of the site"`
	Schedule  backup.Schedule   `json:"schedule,omitempty" doc:"Daily at a time that depends on the site's id, unless said otherwise"`
	KeepDays  int               `json:"keepDays,omitempty" minimum:"0" maximum:"3650" doc:"How long a backup is kept; 60 unless said otherwise"`
	Limits    backup.Limits     `json:"limits,omitempty"`
}

// SitePath names a site.
type SitePath struct {
	SiteID string `path:"siteId" maxLength:"63"`
}

type putSiteIn struct {
	SitePath
	IfMatch     string `header:"If-Match" doc:"ETag of the site as it was read: the change is refused if the site has changed since; *: the site must be there"`
	IfNoneMatch string `header:"If-None-Match" enum:"*" doc:"*: the site must be new"`
	Body        SiteBody
}

type siteOut struct {
	Status int
	ETag   string `header:"ETag"`
	Body   Site
}

func (s server) putSite(ctx context.Context, in *putSiteIn) (*siteOut, error) {
	want, err := wantedRev(in.IfMatch, in.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	site := backup.Site{
		UserID: userOf(ctx), SiteID: in.SiteID, Providers: in.Body.Providers,
		Schedule: in.Body.Schedule, KeepDays: in.Body.KeepDays, Limits: in.Body.Limits,
	}
	stored, created, err := s.Sites.Put(ctx, site, want)
	if backup.Is(err, backup.Conflict) && want != step.AnySite {
		return nil, problem(http.StatusPreconditionFailed, backup.Conflict, err.Error())
	}
	if err != nil {
		return nil, err
	}
	out := s.siteOut(stored)
	if created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// wantedRev reads the preconditions of a PUT.
func wantedRev(ifMatch, ifNoneMatch string) (int64, error) {
	switch {
	case ifNoneMatch == "*":
		return step.NewSite, nil
	case ifMatch == "*":
		return step.OldSite, nil
	case ifMatch == "":
		return step.AnySite, nil
	}
	digits := strings.TrimSuffix(strings.TrimPrefix(ifMatch, `"r`), `"`)
	rev, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || rev < 1 || siteTag(rev) != ifMatch {
		return 0, problem(http.StatusPreconditionFailed, backup.Conflict, "If-Match is not an ETag of this site")
	}
	return rev, nil
}

func siteTag(rev int64) string { return `"r` + strconv.FormatInt(rev, 10) + `"` }

func (s server) siteOut(site backup.Site) *siteOut {
	return &siteOut{Status: http.StatusOK, ETag: siteTag(site.Rev), Body: siteView(site, s.Now())}
}

func (s server) getSite(ctx context.Context, in *SitePath) (*siteOut, error) {
	site, err := s.Sites.Get(ctx, userOf(ctx), in.SiteID)
	if err != nil {
		return nil, err
	}
	return s.siteOut(site), nil
}

func (s server) deleteSite(ctx context.Context, in *SitePath) (*struct{}, error) {
	return nil, s.Sites.Delete(ctx, userOf(ctx), in.SiteID)
}

// SitePage is one page of sites.
type SitePage struct {
	Sites         []Site `json:"sites"`
	NextPageToken string `json:"nextPageToken,omitempty"`
}

type sitePageOut struct{ Body SitePage }

func (s server) listSites(ctx context.Context, in *PageIn) (*sitePageOut, error) {
	from, err := parseToken(in.PageToken)
	if err != nil {
		return nil, err
	}
	sites, err := s.Sites.Store.ListSites(ctx, backup.SiteQuery{UserID: userOf(ctx), After: from.After, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	page := SitePage{Sites: []Site{}}
	if len(sites) > in.Limit {
		sites = sites[:in.Limit]
		page.NextPageToken = position{After: sites[in.Limit-1].SiteID}.token()
	}
	for _, site := range sites {
		page.Sites = append(page.Sites, siteView(site, s.Now()))
	}
	return &sitePageOut{page}, nil
}
