// Command infra is the CDK app: it writes the CloudFormation templates of a deployment.
package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/infra/stacks"
)

func main() {
	err := synthesise()
	stderr := os.Stderr
	os.Stderr = nil // Close may wait for Node twice, and calls the second time abnormal
	jsii.Close()
	if err != nil {
		fmt.Fprintln(stderr, err)
		os.Exit(1)
	}
}

func synthesise() error {
	app := awscdk.NewApp(nil)
	config, err := stacks.ReadConfig(func(key string) any { return app.Node().TryGetContext(jsii.String(key)) })
	if err != nil {
		return err
	}
	if err := stacks.CheckAssets(config); err != nil {
		return err
	}
	stacks.New(app, config)
	app.Synth(nil)
	return nil
}
