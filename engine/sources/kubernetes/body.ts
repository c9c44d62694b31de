/** The body of an answer, as a whole and no more of it than is good. */
import { type ClientHttp2Stream, constants } from 'node:http2';
import { messageOf } from '../../errors.ts';
import { ApiFailure } from './api-failure.ts';

/** Ends the stream when the signal is given, or the time is over; why is on its error. Returns what takes that back. */
export function endStreamAfter(
  stream: ClientHttp2Stream,
  ms: number,
  reason: string,
  signal: AbortSignal,
): { again(): void; stop(): void } {
  const late = (): void => void stream.destroy(new ApiFailure('unreachable', reason));
  const stopped = (): void => void stream.destroy(new ApiFailure('unreachable', 'stopped'));
  const timer = setTimeout(late, ms);
  signal.addEventListener('abort', stopped, { once: true });
  if (signal.aborted) stopped();
  return {
    again: () => timer.refresh(),
    stop: () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stopped);
    },
  };
}

/** Reads a body to its end. @throws ApiFailure also when it ends in the middle, or is longer than `most` bytes. */
export async function readBody(stream: ClientHttp2Stream, most: number, ms: number, signal: AbortSignal): Promise<Buffer> {
  const limit = endStreamAfter(stream, ms, `an answer that does not end within ${ms / 1000} s`, signal);
  const chunks: Buffer[] = [];
  let length = 0;
  let cut = false;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > most) throw new ApiFailure('too-large', `an answer of more than ${most} bytes`);
      chunks.push(chunk);
    }
    cut = isCut(stream);
  } catch (error) {
    throw asFailure(error);
  } finally {
    limit.stop();
    stream.destroy();
  }
  if (cut) throw new ApiFailure('unreachable', 'the answer ended in the middle');
  return Buffer.concat(chunks, length);
}

/** Whether a stream that nobody has destroyed here ended because its connection did: for Node that is the end of the body and no error. */
export function isCut(stream: ClientHttp2Stream): boolean {
  return stream.aborted || (stream.rstCode ?? constants.NGHTTP2_NO_ERROR) !== constants.NGHTTP2_NO_ERROR;
}

/** The error of a stream as a failure of the API server. */
export function asFailure(error: unknown): ApiFailure {
  return error instanceof ApiFailure ? error : new ApiFailure('unreachable', messageOf(error));
}
