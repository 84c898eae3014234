/* What one core can do: fused multiply-adds on registers alone, in float32 and in bfloat16 pairs.
   Built and called by benchmarks/peak.py. */
#include <immintrin.h>
#include <time.h>

#define CHAINS 12 /* more than latency x ports, so that no add waits for the one before */

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

/* FLOP a second; an FMA on 16 floats is 32. */
double fma_float32(long rounds) {
    __m512 sums[CHAINS], a = _mm512_set1_ps(1.0000001f), b = _mm512_set1_ps(1e-7f);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_ps((float)i);
    double start = seconds();
    for (long round = 0; round < rounds; round++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_fmadd_ps(sums[i], a, b);
    double took = seconds() - start;
    volatile float kept = 0;
    for (int i = 0; i < CHAINS; i++) kept += _mm512_reduce_add_ps(sums[i]);
    return 32.0 * CHAINS * rounds / took;
}

/* FLOP a second; one instruction multiplies 32 pairs of bfloat16 and adds them into 16 floats: 64. */
double fma_bfloat16(long rounds) {
    __m512 sums[CHAINS];
    __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1.0f), _mm512_set1_ps(0.5f));
    __m512bh b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3f), _mm512_set1_ps(1e-3f));
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_ps((float)i);
    double start = seconds();
    for (long round = 0; round < rounds; round++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
    double took = seconds() - start;
    volatile float kept = 0;
    for (int i = 0; i < CHAINS; i++) kept += _mm512_reduce_add_ps(sums[i]);
    return 64.0 * CHAINS * rounds / took;
}
