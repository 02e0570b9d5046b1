/* What this machine can do at best, for the roofline: multiply-adds of f32, exponentials, and reads from sets of several
   sizes. Prints rates per second, of all threads together:

       {"flops": F, "exps": E, "reads": [[bytes of the set, bytes per second], ...]}

   usage: probe THREADS */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WIDTH = 16, MAX_THREADS = 256, ROUNDS = 5 };
typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static vec all(float x) {
    return (vec){0} + x;
}

/* Keeps the compiler from seeing through a value. */
#define HIDE(v) __asm__ volatile("" : "+m"(v))

struct job {
    void (*work)(struct job *);
    long count;
    vec *set;
    size_t vectors;
    vec sink;
};

/* Twelve chains of multiply-adds that do not wait for each other, and differ, or they would become one. */
static void multiply_adds(struct job *j) {
    vec x = all(0.999f), y = all(1e-3f);
    HIDE(x);
    HIDE(y);
    vec a = x, b = a + y, c = b + y, d = c + y, e = d + y, f = e + y;
    vec g = f + y, h = g + y, k = h + y, l = k + y, m = l + y, n = m + y;
    for (long i = 0; i < j->count; i++) {
        a = a * x + y, b = b * x + y, c = c * x + y, d = d * x + y;
        e = e * x + y, f = f * x + y, g = g * x + y, h = h * x + y;
        k = k * x + y, l = l * x + y, m = m * x + y, n = n * x + y;
    }
    j->sink = a + b + c + d + e + f + g + h + k + l + m + n;
}

/* exp(x) to f32 accuracy: 2^i times a polynomial, i the nearest integer to x / log 2. */
static vec exponential(vec x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in the low bits */
    vec shifted = x * 1.44269504f + round;
    vec r = x - (shifted - round) * 0.693147181f;
    vec p = r * 1.9875691e-4f + 1.3981999e-3f;
    p = p * r + 8.3334519e-3f;
    p = p * r + 4.1665795e-2f;
    p = p * r + 1.6666665e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return (vec)((ivec)p + ((ivec)shifted << 23));
}

static void exponentials(struct job *j) {
    vec a = all(-1.0f), b = all(-2.0f), c = all(-3.0f), d = all(-4.0f), step = all(1e-7f), sum = all(0);
    HIDE(step);
    for (long i = 0; i < j->count; i++) {
        sum += exponential(a) + exponential(b) + exponential(c) + exponential(d);
        a += step, b += step, c += step, d += step;
    }
    j->sink = sum;
}

static void reads(struct job *j) {
    vec a = {0}, b = a, c = a, d = a, e = a, f = a, g = a, h = a;
    for (long i = 0; i < j->count; i++) {
        for (size_t k = 0; k + 8 <= j->vectors; k += 8) {
            const vec *s = j->set + k;
            a += s[0], b += s[1], c += s[2], d += s[3], e += s[4], f += s[5], g += s[6], h += s[7];
        }
        HIDE(a);
    }
    j->sink = a + b + c + d + e + f + g + h;
}

static void *start(void *argument) {
    struct job *j = argument;
    j->work(j);
    return NULL;
}

/* Seconds of the fastest of several rounds in which every thread does the same. */
static double fastest(int threads, void (*work)(struct job *), long count, vec **sets, size_t vectors) {
    static struct job jobs[MAX_THREADS];
    pthread_t ids[MAX_THREADS];
    double best = 1e30;
    for (int round = 0; round < ROUNDS; round++) {
        double started = now();
        for (int t = 0; t < threads; t++) {
            jobs[t] = (struct job){work, count, sets ? sets[t] : NULL, vectors, {0}};
            if (t > 0 && pthread_create(&ids[t], NULL, start, &jobs[t])) exit(1);
        }
        start(&jobs[0]);
        for (int t = 1; t < threads; t++) pthread_join(ids[t], NULL);
        double seconds = now() - started;
        if (seconds < best) best = seconds;
    }
    return best;
}

/* Bytes per second from a set that the threads share out. */
static double read_rate(int threads, size_t bytes) {
    size_t vectors = bytes / (size_t)threads / sizeof(vec);
    long count = (long)((1ul << 31) / bytes) + 1;
    vec *sets[MAX_THREADS];
    for (int t = 0; t < threads; t++) {
        sets[t] = aligned_alloc(sizeof(vec), vectors * sizeof(vec));
        if (!sets[t]) exit(1);
        memset(sets[t], 0, vectors * sizeof(vec));
    }
    double seconds = fastest(threads, reads, count, sets, vectors);
    for (int t = 0; t < threads; t++) free(sets[t]);
    return (double)(vectors * sizeof(vec)) * threads * (double)count / seconds;
}

int main(int arguments, char **argument) {
    int threads = arguments > 1 ? atoi(argument[1]) : 1;
    if (threads < 1 || threads > MAX_THREADS) return 2;
    const long adds = 20000000, exps = 10000000;
    double flops = 12.0 * 2 * WIDTH * (double)adds * threads / fastest(threads, multiply_adds, adds, NULL, 0);
    double rate = 4.0 * WIDTH * (double)exps * threads / fastest(threads, exponentials, exps, NULL, 0);
    printf("{\"flops\": %.4g, \"exps\": %.4g, \"reads\": [", flops, rate);
    for (size_t bytes = 1ul << 19; bytes <= 1ul << 29; bytes *= 4)
        printf("%s[%zu, %.4g]", bytes > 1ul << 19 ? ", " : "", bytes, read_rate(threads, bytes));
    printf("]}\n");
    return 0;
}
