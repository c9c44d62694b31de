/**
 * The commands' side of the HTTP API. Who this is comes from the environment, which no process list shows: SLUICE_TOKEN or
 * SLUICE_TOKEN_FILE, and for TLS SLUICE_CA, SLUICE_CERT and SLUICE_KEY.
 */
import { readFileSync } from 'node:fs';
import { type IncomingMessage, request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';
import { parseHostPort } from '../config.ts';
import { EngineError, type ErrorCode, messageOf } from '../errors.ts';

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

export class ApiClient {
  readonly #base: URL;

  /** `127.0.0.1:9470`, or `https://node.example:9470` for an engine that has TLS. */
  constructor(address: string) {
    const [, scheme = 'http', rest = ''] = /^(?:(https?):\/\/)?(.*?)\/?$/.exec(address) ?? [];
    parseHostPort(rest, '--api');
    this.#base = new URL(`${scheme}://${rest}`);
  }

  /** The answer's JSON. @throws EngineError `API_UNREACHABLE`, or with the engine's own code and message. */
  async request<T>(method: Method, path: string, body?: Uint8Array, signal?: AbortSignal): Promise<T> {
    const response = await this.open(method, path, body, signal);
    return JSON.parse(await textOf(response)) as T;
  }

  /** The answer as it comes. */
  async open(method: Method, path: string, body?: Uint8Array, signal?: AbortSignal): Promise<IncomingMessage> {
    const response = await this.#send(method, path, body, signal);
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    const text = await textOf(response);
    let failure: { code?: string; message?: string };
    try {
      failure = JSON.parse(text) as typeof failure;
    } catch {
      failure = { message: text.trim() };
    }
    throw new EngineError(
      (failure.code as ErrorCode | undefined) ?? 'API_REFUSED',
      failure.message || `Cannot ${method} ${path}: ${status}`,
    );
  }

  #send(method: Method, path: string, body: Uint8Array | undefined, signal: AbortSignal | undefined): Promise<IncomingMessage> {
    const tls = this.#base.protocol === 'https:';
    const token = process.env.SLUICE_TOKEN ?? readVariable('SLUICE_TOKEN_FILE')?.trim();
    const options = {
      method,
      ...(signal && { signal }),
      ...(tls && { ca: readVariable('SLUICE_CA'), cert: readVariable('SLUICE_CERT'), key: readVariable('SLUICE_KEY') }),
      headers: {
        ...(token && { authorization: `Bearer ${token}` }),
        ...(body && { 'content-type': 'application/wasm', 'content-length': body.length }),
      },
    };
    return new Promise((resolve, reject) => {
      const sent = (tls ? requestTls : requestPlain)(new URL(path, this.#base), options, resolve);
      sent.once('error', (error: NodeJS.ErrnoException) => {
        if (signal?.aborted)
          reject(new EngineError('TIMEOUT', `Cannot ${method} ${path}: no answer from ${this.#base.origin} in time`, error));
        else
          reject(
            new EngineError(
              'API_UNREACHABLE',
              `Cannot reach ${this.#base.origin}: ${error.code ?? messageOf(error)}; is sluice run running, and --api the same?`,
              error,
            ),
          );
      });
      sent.end(body);
    });
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return text;
}

/** The content of the file that a variable of the environment names. */
function readVariable(name: string): string | undefined {
  const path = process.env[name];
  if (!path) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new EngineError('CONFIG_INVALID', `Cannot read ${path}, which ${name} names: ${(error as NodeJS.ErrnoException).code}`, error);
  }
}
