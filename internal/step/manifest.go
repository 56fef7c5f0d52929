package step

import (
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
)

// Manifest is manifest.json beside a backup's objects: enough to find and prove them without Sitevault's rows.
type Manifest struct {
	Version    int            `json:"version"`
	JobID      string         `json:"jobId"`
	UserID     string         `json:"userId"`
	SiteID     string         `json:"siteId"`
	Trigger    backup.Trigger `json:"trigger"`
	Attempt    int            `json:"attempt"`
	CreatedAt  time.Time      `json:"createdAt"`
	FinishedAt time.Time      `json:"finishedAt"`
	Files      []ManifestFile `json:"files"`
}

// ManifestFile is one provider's object.
type ManifestFile struct {
	Name      string         `json:"name"`
	Key       string         `json:"key"`
	SizeBytes int64          `json:"sizeBytes"`
	ETag      string         `json:"exportEtag"` // of the export as the provider gave it
	CRC64NVME string         `json:"crc64nvme"`  // of the whole object, base64 as in x-amz-checksum-crc64nvme
	Parts     int            `json:"parts"`
	Archive   backup.Archive `json:"archive"`
}

func manifestOf(job backup.Job, files []backup.File, now time.Time) Manifest {
	m := Manifest{
		Version: 1, JobID: job.JobID, UserID: job.UserID, SiteID: job.SiteID, Trigger: job.Trigger, Attempt: job.Attempt,
		CreatedAt: job.CreatedAt.UTC(), FinishedAt: now.UTC(), Files: make([]ManifestFile, len(files)),
	}
	for i, f := range files {
		m.Files[i] = ManifestFile{
			Name: f.Name, Key: f.Key, SizeBytes: f.Pin.SizeBytes, ETag: f.Pin.ETag,
			CRC64NVME: checksum.Encode(f.CRC64NVME), Parts: f.PartCount(), Archive: f.Archive,
		}
	}
	return m
}
