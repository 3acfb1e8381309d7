import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({ baseUrl: process.env.DS_URL, longPollTimeoutMs: 3000, subscriptions: false })
