/* Makes MKL, in PyTorch's wheels, take its AVX2 kernels on a processor that is not Intel's:
 *
 *     gcc -shared -fPIC -O2 -o mkl_avx2.so benchmarks/mkl_avx2.c
 *     LD_PRELOAD=$PWD/mkl_avx2.so python benchmarks/cifar.py ...
 *
 * Else it takes others there. The library asks this function, which is its own, what it is on. */
int mkl_serv_intel_cpu_true(void) { return 1; }
