//go:build alloy

// The processors that Alloy takes from the Collector and that the demo's configuration uses.
package main

import (
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/filterprocessor"
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/transformprocessor"
	"go.opentelemetry.io/collector/processor/memorylimiterprocessor"
)

func init() {
	processors = append(processors,
		filterprocessor.NewFactory(), memorylimiterprocessor.NewFactory(), transformprocessor.NewFactory())
}
