-- Run once, when PostgreSQL's volume is empty: Prefect's database is made by POSTGRES_DB.
CREATE DATABASE mlflow;
