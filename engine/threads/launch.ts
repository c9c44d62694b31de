/** The system's side of a thread: a worker of Node with a port of its own. Tests have threads of their own making. */
import { MessageChannel, type ResourceLimits, receiveMessageOnPort, Worker } from 'node:worker_threads';

/** Module of a thread, and what it needs besides its port. */
export interface ThreadModule {
  readonly worker: URL;
  readonly data: Readonly<Record<string, unknown>>;
  readonly resourceLimits?: ResourceLimits;
}

/** Whoever hears of a thread. */
export interface ThreadListener {
  message(message: unknown): void;
  /** Before its end: what it came to. */
  error(error: Error): void;
  /** It has ended, whatever ended it; nothing is heard of it any more. */
  exit(): void;
}

export interface LaunchedThread {
  post(message: unknown): void;
  /** Ends it at once, as far as that can be; exit() tells when it has. */
  terminate(): void;
}

export type Launch = (module: ThreadModule, listener: ThreadListener) => LaunchedThread;

export const launchWorker: Launch = ({ worker: url, data, resourceLimits }, listener) => {
  const { port1, port2 } = new MessageChannel();
  const worker = new Worker(url, {
    workerData: { ...data, port: port2 },
    transferList: [port2],
    ...(resourceLimits && { resourceLimits }),
  });
  port1.on('message', (message) => listener.message(message));
  worker.on('error', (error) => listener.error(error));
  worker.once('exit', () => {
    // Its last words may still be on their way: why it fails, or that it serves in another one's place.
    for (let last = receiveMessageOnPort(port1); last; last = receiveMessageOnPort(port1)) listener.message(last.message);
    port1.close();
    listener.exit();
  });
  return { post: (message) => port1.postMessage(message), terminate: () => void worker.terminate() };
};
