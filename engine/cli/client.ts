/** The commands' side of the HTTP API. */
import { type HostPort, parseHostPort } from '../config.ts';
import { EngineError, type ErrorCode, messageOf } from '../errors.ts';

export class ApiClient {
  readonly #address: HostPort;
  readonly #base: string;

  constructor(address: string) {
    this.#address = parseHostPort(address, '--api');
    const host = this.#address.host.includes(':') ? `[${this.#address.host}]` : this.#address.host;
    this.#base = `http://${host}:${this.#address.port}`;
  }

  /** The answer's JSON. @throws EngineError `API_UNREACHABLE`, or with the engine's own code and message. */
  async request<T>(method: 'GET' | 'POST' | 'PUT', path: string, body?: Uint8Array, signal?: AbortSignal): Promise<T> {
    const response = await this.open(method, path, body, signal);
    return (await response.json()) as T;
  }

  async open(method: 'GET' | 'POST' | 'PUT', path: string, body?: Uint8Array, signal?: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(`${this.#base}${path}`, {
        method,
        ...(body && { body: body as Uint8Array<ArrayBuffer>, headers: { 'content-type': 'application/wasm' } }),
        ...(signal && { signal }),
      });
    } catch (error) {
      if (signal?.aborted) throw new EngineError('TIMEOUT', `Cannot ${method} ${path}: no answer from ${this.#base} in time`, error);
      const cause = (error as Error).cause as NodeJS.ErrnoException | undefined;
      throw new EngineError(
        'API_UNREACHABLE',
        `Cannot reach ${this.#base}: ${cause?.code ?? messageOf(error)}; is sluice run running, and --api the same?`,
        error,
      );
    }
    if (response.ok) return response;
    const text = await response.text();
    let failure: { code?: string; message?: string } = {};
    try {
      failure = JSON.parse(text) as typeof failure;
    } catch {
      failure = { message: text.trim() };
    }
    throw new EngineError(
      (failure.code as ErrorCode | undefined) ?? 'API_REFUSED',
      failure.message || `Cannot ${method} ${path}: ${response.status}`,
    );
  }
}
