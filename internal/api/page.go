package api

import (
	"encoding/base64"
	"encoding/json"

	"github.com/sitevault/sitevault/internal/backup"
)

// position is where a page starts. Tokens are opaque to clients and hold nothing that the query does not check again.
type position struct {
	After string `json:"a"`
	Index int    `json:"i,omitempty"`
}

func (p position) token() string {
	raw, _ := json.Marshal(p) // a string and a number always marshal
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parseToken(token string) (p position, err error) {
	if token == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil || p.Index < 0 {
		return position{}, backup.E(backup.InvalidRequest, "pageToken is not one that this API gave out; leave it out to start at the first page")
	}
	return p, nil
}

// PageIn are the query parameters of every list.
type PageIn struct {
	Limit     int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"At most this many entries"`
	PageToken string `query:"pageToken" maxLength:"512" doc:"nextPageToken of the page before"`
}
