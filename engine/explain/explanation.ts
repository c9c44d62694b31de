/** The question about a flow, and its answer: one declaration for who explains, the API and the command line. */
import { z } from 'zod';

export interface ExplainQuery {
  /** `namespace/pod`, or an address. */
  readonly from: string;
  readonly to: string;
  /** `80/tcp`, `53/udp`, `icmp`. */
  readonly port: string;
  readonly verify: boolean;
  /** A request on that flow: its method, host, path, headers as `name: value` and cookies as `name=value`. */
  readonly request?: RequestQuery;
}

export interface RequestQuery {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly headers: readonly string[];
  readonly cookies: readonly string[];
}

const verdict = z.enum(['allow', 'deny', 'ask']);

export const explanation = z.object({
  source: z.string(),
  destination: z.string(),
  protocol: z.string(),
  port: z.int(),
  verdict,
  ends: z.array(
    z.object({
      pod: z.string(),
      direction: z.enum(['ingress', 'egress']),
      enforced: z.boolean().describe('whether this node enforces it'),
      verdict,
      tier: z.string().describe('admin, network, baseline, plugin, or none where no policy decides'),
      rule: z.string(),
      plugin: z.string(),
      reason: z.string(),
      kernel: z.object({ agrees: z.boolean(), says: z.string() }).optional().describe('what the kernel says, with verify'),
    }),
  ),
  request: z
    .object({
      method: z.string(),
      url: z.string(),
      allowed: z.boolean(),
      status: z.int().describe('of the answer, where it is denied; 0 where it is not'),
      route: z.string().describe('what the plugin calls where it goes'),
      backends: z.array(z.string()).describe('who may take it, such as "shop/checkout-v2:80 10.0.0.3:80"'),
      cookie: z.string().describe('set with the answer'),
      version: z.string().describe('of the plugin that decided; empty where none did'),
      reason: z.string(),
    })
    .nullable()
    .optional()
    .describe('what becomes of the request that was asked about; null where requests on this flow are not decided'),
});

/** A flow with its verdict at both ends. */
export type ExplainedFlow = z.infer<typeof explanation>;
export type EndView = ExplainedFlow['ends'][number];
