import { defineConfig } from 'vitest/config';

/** How much longer than elsewhere tests may take: on an emulated machine, ten times. */
const slow = Number(process.env.SLUICE_TEST_SLOW ?? 1);

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
          testTimeout: 60_000 * slow,
          hookTimeout: 60_000 * slow,
        },
      },
    ],
  },
});
