package e2e_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/step"
)

// readManifest finds the manifest of the job in the bucket.
func readManifest(t *testing.T, storage *e2e.Storage, jobID string) (m step.Manifest) {
	t.Helper()
	for _, key := range storage.Contents(t).Versions {
		if !strings.HasSuffix(key, "/"+jobID+"/manifest.json") {
			continue
		}
		if err := json.Unmarshal(storage.Object(t, key), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	t.Fatalf("job %s has no manifest", jobID)
	return m
}

func manifestFile(t *testing.T, m step.Manifest, name string) step.ManifestFile {
	t.Helper()
	for _, f := range m.Files {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("the manifest has no file %s: %+v", name, m)
	return step.ManifestFile{}
}

// crcOf sums up the export's bytes in one go, not by parts, and writes the sum as S3 does.
func crcOf(t *testing.T, e *e2e.Export) string {
	t.Helper()
	sum := crc64nvme.New()
	if _, err := io.Copy(sum, io.NewSectionReader(e.Content, 0, e.Content.Size())); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, sum.Sum64()))
}
