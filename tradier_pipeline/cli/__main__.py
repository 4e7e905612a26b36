from tradier_pipeline.cli import main

main()
