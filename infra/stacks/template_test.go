package stacks_test

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/infra/stacks"
)

// The bridge to Node unpacks itself into a temporary folder, and removes it only when it is closed.
func TestMain(m *testing.M) {
	code := m.Run()
	stderr := os.Stderr
	os.Stderr = nil // Close may wait for Node twice, and calls the second time abnormal
	jsii.Close()
	os.Stderr = stderr
	os.Exit(code)
}

// resource is one resource of a template.
type resource struct {
	ID             string
	Type           string
	Properties     map[string]any
	DeletionPolicy string
	DependsOn      any
}

// at follows members of objects and, as numbers, of lists; nil when there is no such thing.
func at(value any, path ...any) any {
	for _, step := range path {
		switch v := value.(type) {
		case map[string]any:
			name, _ := step.(string)
			value = v[name]
		case []any:
			i, isIndex := step.(int)
			if !isIndex || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

func (r resource) at(path ...any) any { return at(r.Properties, path...) }

// text is a value as JSON, to look for something anywhere inside.
func text(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// deployment is what synthesis makes of a configuration.
type deployment struct {
	data, app, ops []resource
	findings       []string // of cdk-nag, and whatever else a construct complains about
}

func (d deployment) all() []resource {
	return append(append(append([]resource{}, d.data...), d.app...), d.ops...)
}

// of are the resources of a type.
func of(resources []resource, kind string) []resource {
	var found []resource
	for _, r := range resources {
		if r.Type == kind {
			found = append(found, r)
		}
	}
	return found
}

// one is the only resource of a type.
func one(t *testing.T, resources []resource, kind string) resource {
	t.Helper()
	found := of(resources, kind)
	if len(found) != 1 {
		t.Fatalf("%d resources %s", len(found), kind)
	}
	return found[0]
}

// named is the one whose logical id is id and the hash that CDK adds.
func named(t *testing.T, resources []resource, kind, id string) resource {
	t.Helper()
	for _, r := range of(resources, kind) {
		if len(r.ID) == len(id)+8 && strings.HasPrefix(r.ID, id) {
			return r
		}
	}
	t.Fatalf("no %s %s", kind, id)
	return resource{}
}

// settings that the tests synthesise. Each is synthesised once, for it takes seconds.
var (
	standard = sync.OnceValues(func() (deployment, error) { return synthesise(map[string]any{"alarmEmail": "ops@example.org"}) })
	foreign  = sync.OnceValues(func() (deployment, error) {
		return synthesise(map[string]any{
			"issuer": "https://issuer.example", "audience": "sitevault", "removalPolicy": "destroy", "name": "staging",
			"workers": "0", "toleratedSites": 12.0, "allowHosts": "nas.local", "s3Endpoint": "http://127.0.0.1:4566",
		})
	})
)

// synthesised skips the test aloud on a machine without Node, which CDK runs on.
func synthesised(t *testing.T, synthesis func() (deployment, error)) deployment {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("SKIPPED: CDK needs Node to make templates, and there is no node in PATH")
	}
	d, err := synthesis()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// synthesise runs the app as main does, on placeholders for the functions.
func synthesise(settings map[string]any) (d deployment, err error) {
	folder, err := os.MkdirTemp("", "sitevault-infra-")
	if err != nil {
		return d, err
	}
	defer os.RemoveAll(folder)
	var project struct{ Context map[string]any }
	if err := decode("../../cdk.json", &project); err != nil {
		return d, err
	}
	maps.Copy(project.Context, settings)
	project.Context["assets"] = folder
	config, err := stacks.ReadConfig(context(project.Context))
	if err != nil {
		return d, err
	}
	for _, f := range stacks.Functions(config) {
		if err := placeholder(filepath.Join(folder, f.Name+".zip"), f.Name); err != nil {
			return d, err
		}
	}
	app := awscdk.NewApp(&awscdk.AppProps{Context: &project.Context, Outdir: jsii.String(filepath.Join(folder, "out"))})
	stacks.New(app, config)
	app.Synth(nil)
	return read(filepath.Join(folder, "out"), config.Name)
}

func placeholder(path, content string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	archive := zip.NewWriter(file)
	w, err := archive.Create("bootstrap")
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(content)); err != nil {
		return err
	}
	return archive.Close()
}

// read takes the templates from where the command line finds them, which is faster than asking Node for each.
func read(out, name string) (d deployment, err error) {
	for layer, into := range map[string]*[]resource{"data": &d.data, "app": &d.app, "ops": &d.ops} {
		var template struct{ Resources map[string]resource }
		if err := decode(filepath.Join(out, name+"-"+layer+".template.json"), &template); err != nil {
			return d, err
		}
		for id, r := range template.Resources {
			r.ID = id
			*into = append(*into, r)
		}
		var metadata map[string][]struct {
			Type string
			Data any
		}
		if err := decode(filepath.Join(out, name+"-"+layer+".metadata.json"), &metadata); err != nil {
			return d, err
		}
		for path, entries := range metadata {
			for _, entry := range entries {
				if entry.Type == "aws:cdk:error" || entry.Type == "aws:cdk:warning" {
					d.findings = append(d.findings, fmt.Sprintf("%s: %v", path, entry.Data))
				}
			}
		}
	}
	return d, nil
}

func decode(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// Whatever the AwsSolutions rules find has a written reason, with either kind of sign-in.
func TestNothingUnexplained(t *testing.T) {
	for name, synthesis := range map[string]func() (deployment, error){"standard": standard, "foreign": foreign} {
		for _, finding := range synthesised(t, synthesis).findings {
			t.Errorf("%s: %s", name, finding)
		}
	}
}
