// Generated from bpf/stages.h by `npm run generate`; do not edit.
//
// Stages of the chain that a packet goes through: program array, place in it, program.

/** Those that are there with or without an engine. */
export const STAGES = [
  ['pod_stages', 0, 'judge_from_pod'],
  ['pod_stages', 1, 'judge_to_pod'],
  ['sent_stages', 2, 'judge_sent'],
  ['received_stages', 3, 'judge_received'],
  ['pod_stages', 4, 'choose_backend'],
  ['pod_stages', 5, 'to_backend'],
  ['pod_stages', 6, 'stray_from_pod'],
  ['pod_stages', 7, 'stray_to_pod'],
  ['pod_stages', 8, 'ask_from_pod'],
  ['pod_stages', 9, 'ask_to_pod'],
  ['sent_stages', 10, 'ask_sent'],
  ['received_stages', 11, 'ask_received'],
  ['pod_stages', 14, 'undecided'],
  ['pod_stages', 15, 'route'],
  ['pod_stages', 16, 'refuse'],
  ['pod_stages', 17, 'translate_out'],
  ['pod_stages', 18, 'translate_back'],
  ['pod_stages', 19, 'return_to_proxy'],
  ['pod_stages', 20, 'hello_from_pod'],
  ['pod_stages', 21, 'hello_to_pod'],
  ['pod_stages', 22, 'dns_from_pod'],
  ['pod_stages', 23, 'dns_to_pod'],
  ['sent_stages', 24, 'dns_sent'],
  ['received_stages', 25, 'dns_received'],
  ['sent_stages', 26, 'connected'],
] as const;

/** Those that lead to the engine, while it lives. */
export const ENGINE_STAGES = {
  hold: ['engine_stages', 12, 'hold'],
  to_proxy: ['engine_stages', 13, 'to_proxy'],
} as const;
