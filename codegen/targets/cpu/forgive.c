/* A routine computes LANES elements at a time, and says of all of them together whether it is lost.
 * This asks it about single ones: failing[i] is cleared where it is lost for element i alone. */

#define LANES 16

typedef int Routine(long, const float *const *, float *const *);

void forgive(
    Routine *routine, long n, unsigned char *failing,
    long inputs, const float *const *in, long results) {
    float numbers[inputs + results][LANES];
    const float *given[inputs];
    float *found[results];
    for (long k = 0; k < inputs; ++k) given[k] = numbers[k];
    for (long k = 0; k < results; ++k) found[k] = numbers[inputs + k];
    for (long i = 0; i < n; ++i) {
        if (!failing[i]) continue;
        for (long k = 0; k < inputs; ++k)
            for (long lane = 0; lane < LANES; ++lane) numbers[k][lane] = in[k][i];
        if (routine(LANES, given, found)) failing[i] = 0;
    }
}
