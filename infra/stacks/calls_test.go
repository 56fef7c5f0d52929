package stacks_test

import (
	"fmt"
	"go/constant"
	"go/types"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/go/packages"
	"golang.org/x/tools/go/ssa"
	"golang.org/x/tools/go/ssa/ssautil"

	"github.com/sitevault/sitevault/infra/stacks"
)

const (
	module   = "github.com/sitevault/sitevault"
	services = "github.com/aws/aws-sdk-go-v2/service/"

	// countsRequests has a permission of its own: for rows of one kind.
	countsRequests = "(*" + module + "/internal/dynamo.Store).Admit"
)

// program is the code of all functions. It is built once, for it takes seconds.
var program = sync.OnceValues(func() (*ssa.Program, error) {
	loaded, err := packages.Load(&packages.Config{
		Dir: "../..",
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedTypes |
			packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedTypesSizes | packages.NeedModule,
	}, "./functions/...", "./internal/...")
	if err != nil {
		return nil, err
	}
	for _, p := range loaded {
		if len(p.Errors) > 0 {
			return nil, p.Errors[0]
		}
	}
	built, _ := ssautil.Packages(loaded, ssa.InstantiateGenerics)
	built.Build()
	return built, nil
})

// reach collects what can run from a main function on. It takes more for reachable than is: a function whose value is
// taken, every method that an interface of somebody else's could call, and an interface's method on every type that is
// ever put into an interface. It knows nothing of conditions; what only conditions exclude is cut, by name.
type reach struct {
	program  *ssa.Program
	settings types.Type      // lambdaedge.Settings
	cut      map[string]bool // names of functions that are not entered; true once met

	visited map[*ssa.Function]bool
	todo    []*ssa.Function
	types   []types.Type // that interfaces hold
	invoked []invocation

	calls     map[string]bool // "dynamodb.GetItem"
	variables map[string]bool
	kinds     map[string]bool // of errors that are made, not merely asked for
	unclear   []string
}

type invocation struct {
	on     *types.Interface
	method *types.Func
}

func reached(p *ssa.Program, from *ssa.Function, cut []string) *reach {
	r := &reach{
		program: p, settings: p.ImportedPackage(module + "/internal/lambdaedge").Type("Settings").Type(),
		cut: map[string]bool{}, visited: map[*ssa.Function]bool{}, calls: map[string]bool{}, variables: map[string]bool{}, kinds: map[string]bool{},
	}
	for _, name := range cut {
		r.cut[name] = false
	}
	r.enter(from)
	for len(r.todo) > 0 {
		next := r.todo[len(r.todo)-1]
		r.todo = r.todo[:len(r.todo)-1]
		r.walk(next)
	}
	r.tables()
	return r
}

// tables notes the kinds that stand in variables of the packages that were reached, such as those of a service's codes.
// The list of all kinds, in their own package, is no such table.
func (r *reach) tables() {
	seen := map[*ssa.Package]bool{r.program.ImportedPackage(module + "/internal/backup"): true}
	for f := range r.visited {
		if f.Pkg == nil || seen[f.Pkg] || !strings.HasPrefix(f.Pkg.Pkg.Path(), module) {
			continue
		}
		seen[f.Pkg] = true
		for _, block := range f.Pkg.Func("init").Blocks {
			for _, i := range block.Instrs {
				for _, operand := range i.Operands(nil) {
					r.kind(i, *operand)
				}
			}
		}
	}
}

func (r *reach) enter(f *ssa.Function) {
	if f == nil || r.visited[f] {
		return
	}
	if _, cut := r.cut[f.String()]; cut {
		r.cut[f.String()] = true
		return
	}
	r.visited[f] = true
	if f.String() == countsRequests {
		r.calls["dynamo.Store.Admit"] = true
		return
	}
	r.todo = append(r.todo, f)
	r.call(f)
}

// call notes calls of AWS and, by their names, of settings.
func (r *reach) call(f *ssa.Function) {
	receiver := f.Signature.Recv()
	if receiver == nil {
		return
	}
	t := receiver.Type()
	if pointer, ok := t.(*types.Pointer); ok {
		t = pointer.Elem()
	}
	named, ok := t.(*types.Named)
	if !ok || named.Obj().Pkg() == nil {
		return
	}
	service, isService := strings.CutPrefix(named.Obj().Pkg().Path(), services)
	if isService && strings.HasSuffix(named.Obj().Name(), "Client") && f.Object() != nil && f.Object().Exported() && f.Name() != "Options" {
		r.calls[service+"."+f.Name()] = true
	}
}

func (r *reach) walk(f *ssa.Function) {
	for _, block := range f.Blocks {
		for _, instruction := range block.Instrs {
			r.instruction(instruction)
		}
	}
}

func (r *reach) instruction(i ssa.Instruction) {
	for _, operand := range i.Operands(nil) {
		if f, ok := (*operand).(*ssa.Function); ok {
			r.enter(f)
		}
		r.kind(i, *operand)
	}
	switch i := i.(type) {
	case *ssa.MakeInterface:
		r.hold(i)
	case *ssa.FieldAddr:
		r.field(i)
	case ssa.CallInstruction:
		common := i.Common()
		if common.IsInvoke() {
			call := invocation{common.Value.Type().Underlying().(*types.Interface), common.Method}
			r.invoke(call)
			if types.Implements(types.NewPointer(r.settings), call.on) {
				r.setting(common.Args)
			}
		} else if callee := common.StaticCallee(); callee != nil && strings.HasPrefix(callee.String(), "(*"+module+"/internal/lambdaedge.Settings).") {
			r.setting(common.Args[1:])
		}
	}
}

// kind notes the kind of an error that the instruction makes. Comparing with a kind, or asking backup.Is, makes none.
func (r *reach) kind(user ssa.Instruction, operand ssa.Value) {
	c, ok := operand.(*ssa.Const)
	if !ok || c.Value == nil || c.Type().String() != module+"/internal/backup.Kind" {
		return
	}
	if _, compares := user.(*ssa.BinOp); compares {
		return
	}
	if call, ok := user.(ssa.CallInstruction); ok {
		if callee := call.Common().StaticCallee(); callee != nil && callee.String() == module+"/internal/backup.Is" {
			return
		}
	}
	if kind := constant.StringVal(c.Value); kind != "" {
		r.kinds[kind] = true
	}
}

// hold notes the type that an interface holds from here on. Methods of interfaces of other modules may be called by
// these at any time.
func (r *reach) hold(i *ssa.MakeInterface) {
	if c, ok := i.X.(*ssa.Const); ok && c.IsNil() {
		return
	}
	t := i.X.Type()
	if !slices.ContainsFunc(r.types, func(known types.Type) bool { return types.Identical(known, t) }) {
		r.types = append(r.types, t)
		for _, call := range r.invoked {
			r.dispatch(t, call)
		}
	}
	into, _ := i.Type().Underlying().(*types.Interface)
	named, _ := i.Type().(*types.Named)
	if named != nil && named.Obj().Pkg() != nil && strings.HasPrefix(named.Obj().Pkg().Path(), module) {
		return
	}
	for m := range into.Methods() {
		r.invoke(invocation{into, m})
	}
}

func (r *reach) invoke(call invocation) {
	for _, known := range r.invoked {
		if known.method == call.method && types.Identical(known.on, call.on) {
			return
		}
	}
	r.invoked = append(r.invoked, call)
	for _, t := range r.types {
		r.dispatch(t, call)
	}
}

func (r *reach) dispatch(t types.Type, call invocation) {
	if !types.Implements(t, call.on) {
		return
	}
	if selection := r.program.MethodSets.MethodSet(t).Lookup(call.method.Pkg(), call.method.Name()); selection != nil {
		r.enter(r.program.MethodValue(selection))
	}
}

// field notes what decides about permissions inside of a request: the kinds of writes of a transaction, and the index.
func (r *reach) field(i *ssa.FieldAddr) {
	pointer, ok := i.X.Type().Underlying().(*types.Pointer)
	if !ok {
		return
	}
	named, ok := pointer.Elem().(*types.Named)
	if !ok || named.Obj().Pkg() == nil {
		return
	}
	service, isService := strings.CutPrefix(named.Obj().Pkg().Path(), services)
	fields := named.Underlying().(*types.Struct)
	name := named.Obj().Name() + "." + fields.Field(i.Field).Name()
	if isService && (strings.HasPrefix(name, "TransactWriteItem.") || name == "QueryInput.IndexName") && written(i) {
		r.calls[strings.TrimSuffix(service, "/types")+"."+name] = true
	}
}

func written(i *ssa.FieldAddr) bool {
	return slices.ContainsFunc(*i.Referrers(), func(user ssa.Instruction) bool { store, ok := user.(*ssa.Store); return ok && store.Addr == i })
}

// setting notes the name of a variable that is read. One way to read it may go by another.
func (r *reach) setting(args []ssa.Value) {
	if len(args) == 0 {
		return
	}
	name, ok := args[0].(*ssa.Const)
	if ok && name.Value.Kind() == constant.String {
		if variable := constant.StringVal(name.Value); !strings.HasPrefix(variable, "AWS_") { // which are Lambda's own
			r.variables[variable] = true
		}
	} else if within := args[0].Parent(); within == nil || !strings.Contains(within.String(), "lambdaedge.Settings)") {
		r.unclear = append(r.unclear, fmt.Sprint(within))
	}
}

// Handlers of the API that the other of its two functions serves: API Gateway sends each only its methods, and the
// function that reads refuses others.
var (
	writes = handlers("createBackup", "keepBackup", "deleteBackup", "retryBackup", "cancelBackup", "putSite", "deleteSite", "createTicket")
	views  = handlers("listBackups", "getBackup", "listTasks", "getFile", "listSites", "getSite")
)

func handlers(names ...string) []string {
	for i, name := range names {
		names[i] = "(" + module + "/internal/api.server)." + name
	}
	return names
}

var cuts = map[string][]string{"status": writes, "create": views}

// need is one permission.
type need struct {
	on     stacks.Resource
	action string
	via    string
}

func (n need) String() string { return fmt.Sprintf("%s on %s %s", n.action, n.on, n.via) }

func needs(on stacks.Resource, actions ...string) []need {
	var all []need
	for _, action := range actions {
		all = append(all, need{on: on, action: action})
	}
	return all
}

func keyViaS3(actions ...string) []need {
	all := needs(stacks.DataKey, actions...)
	for i := range all {
		all[i].via = "s3"
	}
	return all
}

// permissions are those that AWS asks for with each call: https://docs.aws.amazon.com/service-authorization/latest/reference/
// (read 2026-11). S3 tells that an object is absent only to those who may list the bucket, and else refuses.
var permissions = map[string][]need{
	"dynamodb.GetItem":      needs(stacks.TheTable, "dynamodb:GetItem"),
	"dynamodb.BatchGetItem": needs(stacks.TheTable, "dynamodb:BatchGetItem"),
	"dynamodb.Query":        needs(stacks.TheTable, "dynamodb:Query"),
	"dynamodb.PutItem":      needs(stacks.TheTable, "dynamodb:PutItem"),
	"dynamodb.UpdateItem":   needs(stacks.TheTable, "dynamodb:UpdateItem"),
	"dynamo.Store.Admit":    needs(stacks.RequestCounts, "dynamodb:UpdateItem"),
	"dynamodb.DeleteItem":   needs(stacks.TheTable, "dynamodb:DeleteItem"),

	"dynamodb.BatchWriteItem":       needs(stacks.TheTable, "dynamodb:BatchWriteItem"),
	"dynamodb.QueryInput.IndexName": needs(stacks.DueIndex, "dynamodb:Query"),

	"dynamodb.TransactWriteItems":               nil, // see its kinds of writes
	"dynamodb.TransactWriteItem.Put":            needs(stacks.TheTable, "dynamodb:PutItem"),
	"dynamodb.TransactWriteItem.Update":         needs(stacks.TheTable, "dynamodb:UpdateItem"),
	"dynamodb.TransactWriteItem.Delete":         needs(stacks.TheTable, "dynamodb:DeleteItem"),
	"dynamodb.TransactWriteItem.ConditionCheck": needs(stacks.TheTable, "dynamodb:ConditionCheckItem"),

	"s3.CreateMultipartUpload":   append(needs(stacks.Objects, "s3:PutObject"), keyViaS3("kms:GenerateDataKey", "kms:Decrypt")...),
	"s3.UploadPart":              append(needs(stacks.Objects, "s3:PutObject"), keyViaS3("kms:GenerateDataKey", "kms:Decrypt")...),
	"s3.CompleteMultipartUpload": append(needs(stacks.Objects, "s3:PutObject"), keyViaS3("kms:GenerateDataKey", "kms:Decrypt")...),
	"s3.PutObject":               append(needs(stacks.Objects, "s3:PutObject"), keyViaS3("kms:GenerateDataKey", "kms:Decrypt")...),
	"s3.ListParts":               needs(stacks.Objects, "s3:ListMultipartUploadParts"),
	"s3.AbortMultipartUpload":    needs(stacks.Objects, "s3:AbortMultipartUpload"),
	"s3.ListMultipartUploads":    needs(stacks.TheBucket, "s3:ListBucketMultipartUploads"),
	"s3.ListObjectVersions":      needs(stacks.TheBucket, "s3:ListBucketVersions"),
	"s3.DeleteObjects":           needs(stacks.Objects, "s3:DeleteObject", "s3:DeleteObjectVersion"),
	"s3.DeleteObject":            needs(stacks.Objects, "s3:DeleteObject", "s3:DeleteObjectVersion"),
	"s3.ListObjectsV2":           nil, // only of storages other than Amazon's
	"s3.GetBucketVersioning":     nil, // likewise
	"s3.HeadObject":              append(append(needs(stacks.Objects, "s3:GetObject"), needs(stacks.TheBucket, "s3:ListBucket")...), keyViaS3("kms:Decrypt")...),
	"s3.GetObject":               append(append(needs(stacks.Objects, "s3:GetObject"), needs(stacks.TheBucket, "s3:ListBucket")...), keyViaS3("kms:Decrypt")...),
	"s3.PresignGetObject":        append(needs(stacks.Objects, "s3:GetObject"), keyViaS3("kms:Decrypt")...),

	"sfn.StartExecution": needs(stacks.Machine, "states:StartExecution"),
	"sfn.StopExecution":  needs(stacks.Executions, "states:StopExecution"),

	"scheduler.CreateSchedule": append(needs(stacks.Schedules, "scheduler:CreateSchedule"), need{stacks.ScheduleRole, "iam:PassRole", "scheduler"}),
	"scheduler.UpdateSchedule": append(needs(stacks.Schedules, "scheduler:UpdateSchedule"), need{stacks.ScheduleRole, "iam:PassRole", "scheduler"}),
	"scheduler.DeleteSchedule": needs(stacks.Schedules, "scheduler:DeleteSchedule"),
	"scheduler.GetSchedule":    needs(stacks.Schedules, "scheduler:GetSchedule"),

	"eventbridge.PutEvents":                    needs(stacks.Bus, "events:PutEvents"),
	"secretsmanager.GetSecretValue":            needs(stacks.Secrets, "secretsmanager:GetSecretValue"),
	"apigatewaymanagementapi.DeleteConnection": needs(stacks.Connections, "execute-api:ManageConnections"),
	"apigatewaymanagementapi.PostToConnection": needs(stacks.Connections, "execute-api:ManageConnections"),
}

func findings(t *testing.T, f stacks.Function) *reach {
	t.Helper()
	p, err := program()
	if err != nil {
		t.Fatal(err)
	}
	main := p.ImportedPackage(module + "/functions/" + f.Name)
	if main == nil {
		t.Fatalf("there is no functions/%s", f.Name)
	}
	r := reached(p, main.Func("main"), cuts[f.Name])
	for name, met := range r.cut {
		if !met {
			t.Errorf("%s does not come to %s any more: take it off the list", f.Name, name)
		}
	}
	return r
}

// A role allows exactly what the code of its function calls: a call without a permission would fail in the night, and a
// permission without a call is somebody else's way in.
func TestRolesFollowTheCode(t *testing.T) {
	for _, f := range stacks.Functions(everything(t)) {
		r := findings(t, f)
		want := map[need]string{}
		for call := range r.calls {
			required, known := permissions[call]
			if !known {
				t.Errorf("%s calls %s, of which this test does not know the permissions", f.Name, call)
			}
			for _, n := range required {
				want[n] = call
			}
		}
		for _, g := range f.Grants {
			for _, action := range g.Actions {
				n := need{g.On, action, g.Via}
				if _, used := want[n]; !used {
					t.Errorf("%s may %v and nothing in it calls for that", f.Name, n)
				}
			}
		}
		for n, call := range want {
			if !granted(f, n) {
				t.Errorf("%s calls %s and must be granted %v", f.Name, call, n)
			}
		}
		t.Logf("%s: %v", f.Name, slices.Sorted(maps.Keys(r.calls)))
	}
}

func granted(f stacks.Function, n need) bool {
	return slices.ContainsFunc(f.Grants, func(g stacks.Grant) bool {
		return g.On == n.on && g.Via == n.via && slices.Contains(g.Actions, n.action)
	})
}

// A function is told exactly the variables that its code reads.
func TestVariablesFollowTheCode(t *testing.T) {
	for _, f := range stacks.Functions(everything(t)) {
		r := findings(t, f)
		for _, where := range r.unclear {
			t.Errorf("%s reads a setting whose name is not to be seen: %s", f.Name, where)
		}
		var told []string
		for _, v := range f.Reads {
			told = append(told, string(v))
		}
		slices.Sort(told)
		if read := slices.Sorted(maps.Keys(r.variables)); !slices.Equal(told, read) {
			t.Errorf("%s is told %v and reads %v", f.Name, told, read)
		}
	}
}
