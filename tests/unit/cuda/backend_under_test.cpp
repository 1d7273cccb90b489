#include "backend_under_test.h"

#include "cuda/backend.h"

const phi3tune::ops::Backend& phi3tune::cuda::test::backend_under_test() { return open_backend(0); }
