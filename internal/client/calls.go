package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sitevault/sitevault/internal/api"
)

// PutSite registers or changes a site. With an etag, as Site returned it, the change is refused if the site has changed
// since; a conflict has the status 412.
func (c *Client) PutSite(ctx context.Context, siteID string, body api.SiteBody, etag string) (site api.Site, err error) {
	r := request{method: http.MethodPut, path: "/site/" + url.PathEscape(siteID), body: body, repeatable: etag == ""}
	if etag != "" {
		r.header = http.Header{"If-Match": {etag}}
	}
	_, err = c.call(ctx, r, &site)
	return site, err
}

// Site reads a site and its ETag.
func (c *Client) Site(ctx context.Context, siteID string) (site api.Site, etag string, err error) {
	header, err := c.call(ctx, get("/site/"+url.PathEscape(siteID)), &site)
	return site, header.Get("ETag"), err
}

// DeleteSite removes a site; its backups stay until their time is over.
func (c *Client) DeleteSite(ctx context.Context, siteID string) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: "/site/" + url.PathEscape(siteID), repeatable: true}, nil)
	return err
}

// CreateBackup asks for a backup. Without a key it makes one, so that a lost answer never leads to two backups.
func (c *Client) CreateBackup(ctx context.Context, body api.CreateBackupBody, key string) (job api.Backup, err error) {
	if key == "" {
		key = c.config.NewKey()
	}
	_, err = c.call(ctx, request{
		method: http.MethodPost, path: "/backup", body: body, header: http.Header{"Idempotency-Key": {key}}, repeatable: true,
	}, &job)
	return job, err
}

// Backup reads a backup, and after what time another look is worth it (0: it is over).
func (c *Client) Backup(ctx context.Context, jobID string) (job api.BackupDetail, again time.Duration, err error) {
	header, err := c.call(ctx, get(jobPath(jobID)), &job)
	return job, retryAfter(header), err
}

// KeepBackup changes until when a done backup is kept.
func (c *Client) KeepBackup(ctx context.Context, jobID string, until time.Time) (job api.Backup, err error) {
	body := map[string]time.Time{"deleteAt": until}
	_, err = c.call(ctx, request{method: http.MethodPatch, path: jobPath(jobID), body: body, repeatable: true}, &job)
	return job, err
}

// DeleteBackup begins the deletion of a backup.
func (c *Client) DeleteBackup(ctx context.Context, jobID string) (job api.Backup, err error) {
	_, err = c.call(ctx, request{method: http.MethodDelete, path: jobPath(jobID), repeatable: true}, &job)
	return job, err
}

// CancelBackup fails a pending or running backup.
func (c *Client) CancelBackup(ctx context.Context, jobID string) (job api.Backup, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: jobPath(jobID) + "/cancel", repeatable: true}, &job)
	return job, err
}

// RetryBackup tries a failed backup again. The request is sent once: a second one would meet a backup under way.
func (c *Client) RetryBackup(ctx context.Context, jobID string) (job api.Backup, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: jobPath(jobID) + "/retry"}, &job)
	return job, err
}

// Link gets a short-lived download link to one provider's file of a done backup.
func (c *Client) Link(ctx context.Context, jobID, provider string) (link api.Download, err error) {
	_, err = c.call(ctx, get(jobPath(jobID)+"/files/"+url.PathEscape(provider)), &link)
	return link, err
}

func (c *Client) ticket(ctx context.Context) (t api.Ticket, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: "/ticket", repeatable: true}, &t)
	return t, err
}

func get(path string) request {
	return request{method: http.MethodGet, path: path, repeatable: true}
}

func jobPath(jobID string) string { return "/backup/" + url.PathEscape(jobID) }

// Sites lists all sites in the order of their ids. An error ends the list.
func (c *Client) Sites(ctx context.Context) iter.Seq2[api.Site, error] {
	return pages(func(token string) ([]api.Site, string, error) {
		var page api.SitePage
		_, err := c.call(ctx, list("/site", token, nil), &page)
		return page.Sites, page.NextPageToken, err
	})
}

// Backups lists backups, newest first, of one site or ("") of all. An error ends the list.
func (c *Client) Backups(ctx context.Context, siteID string) iter.Seq2[api.Backup, error] {
	query := url.Values{}
	if siteID != "" {
		query.Set("siteId", siteID)
	}
	return pages(func(token string) ([]api.Backup, string, error) {
		var page api.BackupPage
		_, err := c.call(ctx, list("/backup", token, query), &page)
		return page.Backups, page.NextPageToken, err
	})
}

// Tasks lists the tasks of a backup. An error ends the list.
func (c *Client) Tasks(ctx context.Context, jobID string) iter.Seq2[api.Task, error] {
	return pages(func(token string) ([]api.Task, string, error) {
		var page api.TaskPage
		_, err := c.call(ctx, list(jobPath(jobID)+"/tasks", token, nil), &page)
		return page.Tasks, page.NextPageToken, err
	})
}

const pageLength = 100

func list(path, token string, query url.Values) request {
	r := get(path)
	r.query = url.Values{"limit": {strconv.Itoa(pageLength)}}
	for name, values := range query {
		r.query[name] = values
	}
	if token != "" {
		r.query.Set("pageToken", token)
	}
	return r
}

// pages turns a call that reads one page into a sequence over all of them.
func pages[T any](read func(token string) (entries []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token := ""; ; {
			entries, next, err := read(token)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			token = next
		}
	}
}
