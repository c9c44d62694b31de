/** Answers of the proxy's own, which say why in a header. */

export const REASON_HEADER = 'x-sluice-reason';
export const TEXT_TYPE = 'text/plain; charset=utf-8';

/** An answer in HTTP/1; why is told in a header. `kept`: the connection goes on. `bodiless`: the body's length is told, but not the body. */
export function ownAnswer(status: number, reason: string, body: string, { kept, bodiless }: { kept: boolean; bodiless: boolean }): Buffer {
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_TEXTS[status] ?? 'Refused'}`,
    'server: sluice',
    `${REASON_HEADER}: ${headerText(reason)}`,
    `content-type: ${TEXT_TYPE}`,
    `content-length: ${Buffer.byteLength(body)}`,
    ...(kept ? [] : ['connection: close']),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${bodiless ? '' : body}`);
}

/** A text as a header may have it. */
export function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 512);
}

const STATUS_TEXTS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};
