package stacks

import "github.com/aws/constructs-go/constructs/v10"

// New adds all stacks of a deployment to the app.
func New(app constructs.Construct, c Config) {
	data := NewData(app, c)
	NewApp(app, c, data)
}
