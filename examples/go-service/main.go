// Command service answers over HTTP and gRPC, and counts what it answers.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var web, rpc string
	cmd := &cobra.Command{
		Use: "service", Args: cobra.NoArgs, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), web, rpc) },
	}
	cmd.Flags().StringVar(&web, "http", ":8080", "address for HTTP")
	cmd.Flags().StringVar(&rpc, "grpc", ":9090", "address for gRPC")
	if cmd.ExecuteContext(ctx) != nil {
		os.Exit(1)
	}
}

func serve(ctx context.Context, web, rpc string) error {
	listener, err := net.Listen("tcp", rpc)
	if err != nil {
		return err
	}
	calls := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(calls, health.NewServer())
	pages := &http.Server{Addr: web, Handler: handler(prometheus.NewRegistry()), ReadHeaderTimeout: 5 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return calls.Serve(listener) })
	g.Go(func() error {
		if err := pages.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		calls.GracefulStop()
		return pages.Shutdown(context.WithoutCancel(ctx))
	})
	return g.Wait()
}

func handler(metrics *prometheus.Registry) http.Handler {
	answers := prometheus.NewCounter(prometheus.CounterOpts{Name: "service_answers_total"})
	metrics.MustRegister(answers)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		_, span := otel.Tracer("service").Start(r.Context(), "hello")
		defer span.End()
		answers.Inc()
		fmt.Fprintln(w, "hello")
	})
	return mux
}
