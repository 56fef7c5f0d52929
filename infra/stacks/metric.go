package stacks

const metricNamespace = "Sitevault"
