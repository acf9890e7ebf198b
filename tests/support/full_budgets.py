"""Budgets that say every key of the file: one by kind of source, target and case source."""

from __future__ import annotations

COMMON = """\
release: model-v42
baseline: model-v41
window: 24h
service: assistant
owner: llm-platform
incident_commander: [admin, {id: '7', name: On call}]
concurrent: queue
rollback_budget:
  quality:
    - {task_success_delta_pct: -2.0, max_duration_min: 20, slice: de, accounting: cumulative}
    - {task_success_delta_pct: -20, max_duration_min: 2.5, tier: A, method: sign, min_samples: 5}
    - {task_success_delta_pp: -2, max_duration: 1h30m, severity: minor}
  safety:
    high_severity_incidents_increase: 0
    action: immediate_rollback
  cost: {cost_per_request_delta: 0, worse: higher, max_duration: 10m, tier: c}
  latency: {p95_above: 8, max_duration_min: 30, method: threshold}
decision:
  tier_a_breach: auto_rollback
  tier_b_breach: {action: incident_commander_decision_within_5m, on_timeout: continue, max_overrides: 1}
  tier_c_breach: record_only
watch: {poll: 30s, step: 1m, settle: 2m, grace: 5m, max_gap: 10m, blind_after: 20m, on_blind: rollback}
analysis: {alpha: 0.01, null_margin: 0.25, block: 5m, design_effect: auto, baseline: static}
notify:
  - {notifier: slack, conn_id: oncall, args: {channel: "#rollouts"}, events: [breach, decided]}
  - {notifier: acme.notifiers.Pager, args: {token: 1}, events: blind}
tickets:
  project: LLM
  issue_type: Bug
  priority: {critical: Highest, major: High}
  components: serving
  labels: [a, b]
  fields: {customfield_10010: {value: Production}}
  assignee: {llm-platform: "5b10"}
  close_with: Done
launch_gate:
  results: {path: "/evals/{version}.jsonl", format: jsonl, timeout: 30s}
  columns: {case_id: id, release: r, passed: ok, pass_mark: 0.5, score: s, slice: sl, input_sha256: h,
            numbers: latency_s, scorer: judge}
  measures: {p95: {column: latency_s, quantile: 0.95}, mean_latency: latency_s}
  deltas:
    - {task_success_delta_pp: -2, min_rows: 50, severity: critical, slice: de}
    - {p95_delta_pct: 10}
  min_rows: 40
  ask_within: 2h
"""

SQL = (
    COMMON
    + """\
metrics:
  task_success: {kind: proportion, unit: "", user_impact: true}
  p95: {kind: quantile, unit: s, query: "SELECT 1"}
  gpu: {kind: gauge, user_impact: false}
source:
  type: sql
  conn_id: request_log
  statement_timeout: 10s
  late: 10m
  watermark: SELECT max(ts) FROM loads
  request_log:
    table: analytics.requests
    time: finished_at
    time_type: epoch_ms
    version: model
    slice: country
    success: {column: status, among: [ok, done]}
    latency: latency_ms
    latency_unit: ms
    fastest: 50ms
    slowest: 2m
    handoff: handoff
    incident: {column: incident}
    tokens: tokens
    cost: cost
target:
  conn_id: traffic_router
  ship_share: 50%
  stages: [{traffic: 5%, hold: 1h}, {traffic: 0.25, hold: 2h}]
  versions: {model-v42: 42, model-v41: "41"}
  deadline: 10m
  request_timeout: 5s
  dry_run: write_current
  read: {method: POST, path: /traffic, weights: w, scale: 100, revision: etag}
  write: {method: PATCH, path: /traffic, body: {w: [$release, 1, null]}, headers: {If-Match: $revision}}
  check: {method: OPTIONS, path: /traffic, body: {a: 1.5}, headers: {a: b}}
  baseline_health: {path: /$baseline/healthz, conn_id: other, status: 204, healthy: ok}
cases:
  limit: 10
  candidates: 500
  longest: 1000
  redact: {phone_regions: [DE, US], patterns: {employee: "E[0-9]{6}"}}
  source:
    type: sql
    conn_id: request_log
    statement_timeout: 20s
    request_log:
      input: prompt
      output: answer
      trace_id: trace
      metadata: [country]
      tokens: tokens
      failed: {p95: {column: slow, among: [yes_it_was]}, task_success: wrong}
"""
)

AGGREGATE = (
    COMMON
    + """\
metrics: {p95: {kind: quantile, unit: s}}
source:
  type: sql
  conn_id: db
  aggregate:
    table: requests_per_minute
    time: minute
    time_type: epoch_s
    label: start
    version: model
    slice: country
    requests: requests
    success: successes
    handoff: handoffs
    incident: incidents
    tokens: tokens
    cost: cost
    quantiles: {p95: p95_s, ttft_p95: ttft}
target: {type: mlflow, conn_id: mlflow, model: assistant, alias: live, candidate_alias: next,
         version_tag: name, ship_share: 0.25}
cases:
  source:
    type: http_json
    conn_id: langfuse
    timeout: 30s
    langfuse:
      type: SPAN
      slice: country
      scores: {task_success: {name: judge, below: 0.3, above: 2, labels: [bad]}}
"""
)

PROMETHEUS = (
    COMMON
    + """\
metrics:
  task_success:
    kind: proportion
    query: {failures: 'errors_total{kind="x"}', total: requests_total, absent: zero}
  p95: {kind: quantile, unit: s, query: {histogram: latency_seconds, native: true, bounds: [0.5, 1, 2]}}
  cost_per_request: {kind: mean, unit: USD, query: {sum: cost_total, total: requests_total}}
  queue: {kind: gauge, query: {gauge: queue_depth, across: max}}
  custom: {kind: gauge, query: {value: "sum by (version) (x{$matchers})", n: "n{$matchers}"}}
  promql: {kind: gauge, query: "sum by (version) (rate(y{$matchers}[$window]))"}
  events: {kind: count, query: {events: incidents_total}}
source:
  type: prometheus
  conn_id: prometheus
  version_label: model
  slice_label: country
  labels: {env: prod}
  scrape_interval: 15s
  timeout: 10s
target: {type: unleash, conn_id: unleash, project: p, flag: assistant, environment: prod, by: variants}
cases:
  source:
    type: http_json
    conn_id: phoenix
    phoenix:
      project: default
      version: attributes.version
      slice: country
      span_kind: LLM
      annotations: {task_success: {above: 0.5}}
      errors: [error_rate]
"""
)

HTTP_JSON = (
    COMMON
    + """\
metrics: {p95: {kind: quantile, unit: s}}
source:
  type: http_json
  conn_id: metrics_api
  timeout: 5s
  late: 1m
  requests:
    - method: POST
      path: /api/$version/series
      query: {from: $start, to: $end}
      body: {step: $step_s, list: [1, a]}
      points: data
      time: t
      time_format: epoch_ms
      label: start
      series: {p95: {value: v, n: n, divided_by: d, le: le, scale: 0.001}, task_success: {value: ok}}
      longest: 6h
      full_at: 1000
    - {path: /api/all, points: data, version: v, metric: name, each: {value: v}}
target: {type: flagd, path: /etc/flagd/flags.json, flag: assistant, ship_share: 1}
cases:
  source:
    type: http_json
    conn_id: api
    request:
      method: POST
      path: /api/$release/requests
      query: {limit: $limit}
      body: {cursor: $cursor}
      items: data
      input: i
      output: o
      trace_id: t
      time: at
      time_format: epoch_s
      slice: s
      version: v
      failed: f
      next: next
      metadata: {country: c}
"""
)

DATADOG = (
    COMMON
    + """\
source:
  type: http_json
  conn_id: datadog
  datadog:
    version_tag: model
    queries: {errors: "sum:errors{*} by {model}.as_count()", all: "sum:all{*} by {model}.as_count()"}
    series: {error_rate: {value: errors / all, n: all}}
"""
)

LANGFUSE = (
    COMMON
    + """\
source:
  type: http_json
  conn_id: langfuse
  langfuse:
    api: v1
    row_limit: 500
    queries:
      - view: traces
        version: release
        filters: [{column: name, operator: "=", value: chat, type: string}]
        series: {p95: {measure: latency, aggregation: p95, scale: 0.001}}
"""
)

RECORDED = (
    COMMON
    + """\
metrics: {preset: vllm}
source: {type: recorded, path: series.csv}
"""
)

SCORES = (
    COMMON
    + """\
metrics:
  task_success: {kind: proportion, every: 1h, lag: 2h, bucket_by: arrival}
source:
  type: sql
  conn_id: warehouse
  request_log: {table: calls, time: finished_at, latency: took}
  scores:
    table: evals.scores
    time: asked_at
    arrived: scored_at
    time_type: epoch_s
    version: model
    slice: country
    name: criterion
    score: mark
    score_type: boolean
    label: word
    judge: [judge_model, prompt]
    where: {environment: production}
    metrics:
      task_success: {score: success, passes_at: 0.5}
      tone: {among: [polite, kind]}
"""
)

FULL = {
    "sql": SQL,
    "scores": SCORES,
    "aggregate": AGGREGATE,
    "prometheus": PROMETHEUS,
    "http_json": HTTP_JSON,
    "datadog": DATADOG,
    "langfuse": LANGFUSE,
    "recorded": RECORDED,
}
