/** The gRPC service of tests: its methods, whose messages are texts. */
import type { ServiceDefinition } from '@grpc/grpc-js';

const toBytes = (text: string): Buffer => Buffer.from(text);
const toText = (bytes: Buffer): string => bytes.toString();

function method(name: string, requestStream: boolean, responseStream: boolean) {
  return {
    path: `/shop.Cart/${name}`,
    requestStream,
    responseStream,
    requestSerialize: toBytes,
    requestDeserialize: toText,
    responseSerialize: toBytes,
    responseDeserialize: toText,
  };
}

export const CART = {
  Get: method('Get', false, false),
  Watch: method('Watch', false, true),
  Chat: method('Chat', true, true),
  Fail: method('Fail', false, false),
} satisfies ServiceDefinition;
