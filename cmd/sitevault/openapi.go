package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/api"
)

// apiVersion is what the document says of the API, which outlives many versions of the program.
const apiVersion = "1"

func (p *program) openapiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "openapi", Short: "Print the OpenAPI document of the API", Args: arguments(0, 0),
		Example: "  sitevault openapi > openapi.json",
		RunE: func(*cobra.Command, []string) error {
			document, err := openapiDocument()
			if err != nil {
				return err
			}
			_, err = p.out.Write(document)
			return err
		},
	}
}

func openapiDocument() ([]byte, error) {
	raw, err := api.OpenAPI(apiVersion)
	if err != nil {
		return nil, fmt.Errorf("OpenAPI document: %w", err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("OpenAPI document: %w", err)
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}
