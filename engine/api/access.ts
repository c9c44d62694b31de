/**
 * Who may use the API. On a loopback address without configured tokens: everybody on this machine. Anywhere else, and
 * wherever tokens or clients are configured: who has a token or a certificate, as far as its role goes.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { isLoopback } from '../config.ts';
import type { ApiAccess, Role } from '../config-file.ts';

/** Probes of a kubelet have no token, and learn nothing. */
const OPEN_PATHS: ReadonlySet<string> = new Set(['/healthz', '/readyz']);
const READING: ReadonlySet<string> = new Set(['GET', 'HEAD']);

type Refuse = (reply: FastifyReply, status: number, code: string, message: string) => FastifyReply;

export function guardAccess(api: FastifyInstance, access: ApiAccess, host: string, refuse: Refuse): void {
  const required = !isLoopback(host) || access.tokens.length > 0 || access.clients.size > 0;
  api.addHook('onRequest', async (request, reply) => {
    if (!required) {
      // A web page must not talk to a loopback API by rebinding its own name to 127.0.0.1.
      const { hostname } = request;
      if (isLoopback(hostname.replace(/^\[|\]$/g, ''))) return;
      return refuse(reply, 403, 'CONFIG_INVALID', `Cannot answer for host ${hostname}: use a loopback address`);
    }
    if (OPEN_PATHS.has(request.url)) return;
    const role = tokenRole(access, request) ?? certificateRole(access, request);
    if (!role) {
      reply.header('www-authenticate', 'Bearer');
      return refuse(
        reply,
        401,
        'API_DENIED',
        'Cannot answer: send a token (SLUICE_TOKEN or SLUICE_TOKEN_FILE) or a client certificate (SLUICE_CERT and SLUICE_KEY)',
      );
    }
    if (role === 'read' && !READING.has(request.method))
      return refuse(reply, 403, 'API_DENIED', `Cannot ${request.method} ${request.url}: role read may only look; it needs role push`);
  });
}

/** Compares with every token, whole, so that neither time nor order says how much of one was right. */
function tokenRole({ tokens }: ApiAccess, request: FastifyRequest): Role | undefined {
  const [, token] = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
  const given = createHash('sha256')
    .update(token ?? '')
    .digest();
  let role: Role | undefined;
  for (const known of tokens) if (timingSafeEqual(known.sha256, given) && token) role = known.role;
  return role;
}

function certificateRole({ clients }: ApiAccess, request: FastifyRequest): Role | undefined {
  const socket = request.raw.socket as Partial<TLSSocket>;
  if (!socket.authorized || !socket.getPeerCertificate) return undefined;
  const name = socket.getPeerCertificate().subject?.CN;
  return typeof name === 'string' ? clients.get(name) : undefined;
}
