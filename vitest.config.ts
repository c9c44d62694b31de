import { defineConfig } from 'vitest/config';

/** `unit` needs no root; `kernel` loads programs and makes network namespaces, one file after another. */
export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: ['test/**/*.kernel.test.ts'], testTimeout: 20_000 } },
      {
        test: {
          name: 'kernel',
          include: ['test/**/*.kernel.test.ts'],
          globalSetup: ['test/support/require-kernel.ts'],
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
